"""``edgepack environment list``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from edgepack.names import check_environment_name
from packager.commands.environment_views import environment_json, environment_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("list")
@click.option("-n", "--name", help="All versions of this environment.")
@common
def command(name: str | None, workspace: Workspace, output: str) -> None:
    """List environments: the latest version of each name, those that edgepack brings included."""
    from packager.environments.curated import all_curated

    if workspace.is_unused:
        found = tuple(one for one in all_curated() if name in (None, one.name))
    else:
        registry = workspace.environments
        found = registry.list() if name is None else registry.versions(check_environment_name(name))
    answer(output, [environment_json(one) for one in found], [environment_row(one) for one in found])
