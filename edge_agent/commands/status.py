"""``edge-agent status``"""

from __future__ import annotations

import click

from edge_agent.commands.options import answer_status, common
from edge_agent.device import Device
from edgepack.host.console import note


@click.command("status")
@common
def command(device: Device, output: str) -> None:
    """Show every service: its state, its image, and the image that a rollback returns to; and every endpoint.

    Of an agent that runs, also what is wrong with its broker.
    """
    from edge_agent.daemon.links import said_of_broker
    from edge_agent.daemon.said import with_said
    from edge_agent.reconcile.status import documents, status
    from edge_agent.traffic.keeper import Routers

    found = with_said(device, status(device))
    judged = documents(device.recorded()[1])
    for one in judged:
        if one.reason is not None:
            note(f"the last desired state of {one.scope} was refused ({one.status:d}): {one.reason}")
    if not found:
        note(f"no services in {device.root}; run some with: edge-agent apply FILE")
    broker = said_of_broker(device)
    if broker is not None and broker.get("reason"):
        note(f"broker {broker.get('broker')} ({broker.get('state')}): {broker['reason']}")
    answer_status(output, found, judged, broker, Routers(device).report(*device.recorded()))
