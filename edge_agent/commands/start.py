"""``edge-agent start``"""

from __future__ import annotations

import click

from edge_agent.commands.options import allow_unsigned, answer_status, common
from edge_agent.device import Device


@click.command("start")
@click.argument("name")
@allow_unsigned
@common
def command(device: Device, name: str, allow_unsigned: bool, output: str) -> None:
    """Run service NAME as it ran before, and wait until it is healthy."""
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status

    Runner(device, allow_unsigned=allow_unsigned).start(name)
    answer_status(output, status(device))
