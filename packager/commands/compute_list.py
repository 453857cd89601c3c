"""``edgepack compute list``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from packager.commands.compute_views import compute_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("list")
@common
def command(workspace: Workspace, output: str) -> None:
    """List the compute targets; no cluster is asked."""
    from packager.services.targets.compute_targets import ComputeTargets

    found = ComputeTargets(workspace).list()
    if not found:
        note("no compute targets yet; attach one with: edgepack compute attach NAME --context CONTEXT")
    answer(output, [one.to_json() for one in found], [compute_row(one) for one in found])
