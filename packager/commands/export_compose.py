"""``edgepack export compose``"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from packager.commands.device_port import device_port
from packager.commands.export_options import exporting, pulled
from packager.exports.check.findings import Findings
from packager.exports.exported import Exported
from packager.exports.workload import Workload
from packager.workspaces.workspace import Workspace


def _check(paths: Sequence[Path]) -> Findings:
    from packager.exports.check.compose import check_compose
    from packager.exports.check.objects import read_document

    findings = Findings()
    for path in paths:
        findings.add(check_compose(read_document(path), str(path)))
    return findings


@click.command("compose")
@exporting(_check)
@device_port
def command(workload: Workload, workspace: Workspace) -> Exported:
    """Write PACKAGE or SERVICE as a Compose file, for docker compose and podman-compose.

    The image is the one that was loaded on that machine; with --repository it is pulled by its digest.
    """
    from packager.exports.compose import export_compose

    del workspace
    return export_compose(workload, pulls=pulled(workload))
