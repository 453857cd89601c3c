"""``edgepack compute detach``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.compute_views import compute_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("detach")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Forget a compute target on which nothing runs; the cluster stays as it is."""
    from packager.services.targets.compute_targets import ComputeTargets

    found = ComputeTargets(workspace).detach(name)
    answer(output, found.to_json(), [compute_row(found)])
