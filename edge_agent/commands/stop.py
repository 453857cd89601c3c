"""``edge-agent stop``"""

from __future__ import annotations

import click

from edge_agent.commands.options import answer_status, common
from edge_agent.device import Device


@click.command("stop")
@click.argument("name")
@common
def command(device: Device, name: str, output: str) -> None:
    """Stop service NAME, until it is started or a newer document names it."""
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status

    Runner(device).stop(name)
    answer_status(output, status(device))
