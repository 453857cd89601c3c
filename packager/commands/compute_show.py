"""``edgepack compute show``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from packager.commands.compute_views import compute_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("show")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Show a compute target, its services, and whether the cluster answers and lets its user deploy."""
    from packager.services.targets.compute_targets import ComputeTargets

    targets = ComputeTargets(workspace)
    found = targets.get(name)
    is_usable, reason = targets.state(found)
    services = targets.services_of(name)
    state = "Succeeded" if is_usable else "Failed"
    answer(
        output, found.to_json() | {"state": state, "reason": reason, "services": [*services]},
        [compute_row(found) | {"usable": "yes" if is_usable else "no", "services": ", ".join(services) or None}],
    )  # fmt: skip
    if reason is not None and output == "table":
        note(reason)
