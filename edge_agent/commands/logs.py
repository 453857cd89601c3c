"""``edge-agent logs``"""

from __future__ import annotations

import sys

import click

from edge_agent.commands.options import on_device
from edge_agent.device import Device
from edge_agent.state.records import ServiceRecord
from edgepack.errors import NotFoundError
from edgepack.host.commands import Number
from edgepack.host.console import note
from edgepack.nearness import did_you_mean
from edgepack.text import printable

_LINES = 100


@click.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what the service writes, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=Number(0, 1_000_000, kind=int), default=_LINES, show_default=True, metavar="N",
    help="How many of the last lines.",
)  # fmt: skip
@on_device
def command(device: Device, name: str, follow: bool, lines: int) -> None:
    """Show what service NAME wrote, also before it was last started anew, as far as its log is kept."""
    record = _record(device, name)
    runtime = device.runtime_named(record.runtime)
    if not follow:
        text = runtime.logs(name, lines)
        if not text:
            note(f"service {name} has written nothing, as far as its log is kept")
        _show(text)
        return
    try:
        for text in runtime.follow(name, lines):
            _show(text)
    except KeyboardInterrupt:
        return


def _record(device: Device, name: str) -> ServiceRecord:
    services = device.services()
    if name not in services:
        hint = did_you_mean(name, services, f"services: {', '.join(services) or 'none'}")
        raise NotFoundError(f"service {name!r} not found", where=device.root, hint=hint)
    return services[name]


def _show(text: str) -> None:
    """Print it; on a terminal without what would control it, for a service may write anything."""
    if sys.stdout.isatty():
        text = "\n".join(printable(line) for line in text.split("\n"))
    click.echo(text, nl=False)
    sys.stdout.flush()
