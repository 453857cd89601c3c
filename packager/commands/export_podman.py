"""``edgepack export podman``"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from packager.commands.device_port import device_port
from packager.commands.export_options import exporting, pulled
from packager.commands.secret_options import secrets
from packager.exports.check.findings import Findings
from packager.exports.exported import Exported
from packager.exports.secrets import Credentials
from packager.exports.workload import Workload
from packager.workspaces.workspace import Workspace


def _check(paths: Sequence[Path]) -> Findings:
    from packager.exports.check.objects import read_objects
    from packager.exports.check.podman import check_podman

    return check_podman(read_objects(paths))


@click.command("podman")
@exporting(_check)
@secrets
@device_port
def command(workload: Workload, workspace: Workspace, credentials: Credentials) -> Exported:
    """Write PACKAGE or SERVICE as a pod for: podman kube play DIR/pod.yaml

    The image is the one that was loaded on that machine; with --repository it is pulled.
    """
    from packager.exports.podman import export_podman

    del workspace
    return export_podman(workload, credentials, pulls=pulled(workload))
