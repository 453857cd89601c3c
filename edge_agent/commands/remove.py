"""``edge-agent remove``"""

from __future__ import annotations

import click

from edge_agent.commands.options import answer_status, common
from edge_agent.device import Device


@click.command("remove")
@click.argument("name")
@click.option("--forget", is_flag=True, help="Remove what a rollback needs, too, and the log: it stays removed.")
@common
def command(device: Device, name: str, forget: bool, output: str) -> None:
    """Stop service NAME and remove it; what a rollback needs to run it again stays."""
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status

    Runner(device).stop(name, remove=True, forget=forget)
    answer_status(output, status(device))
