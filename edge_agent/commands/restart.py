"""``edge-agent restart``"""

from __future__ import annotations

import click

from edge_agent.commands.options import answer_status, common
from edge_agent.device import Device


@click.command("restart")
@click.argument("name")
@common
def command(device: Device, name: str, output: str) -> None:
    """Start service NAME anew with the same image and settings, and wait until it is healthy."""
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status

    Runner(device).restart(name)
    answer_status(output, status(device))
