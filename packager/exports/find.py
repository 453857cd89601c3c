"""What an export is of: a service of the workspace, or a package of it."""

from __future__ import annotations

from packager.exports.packages import workload_of
from packager.exports.workload import Workload
from packager.workspaces.workspace import Workspace


def find_workload(
    workspace: Workspace, service: str, name: str | None = None, repository: str | None = None
) -> Workload:
    """The package called ``service`` as a workload; raises as ``workload_of``."""
    return workload_of(workspace, service, name, repository)
