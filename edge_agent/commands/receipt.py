"""``edge-agent receipt``"""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.commands.options import on_device
from edge_agent.device import STORE, Device
from edgepack.host.commands import OUTPUT
from edgepack.host.console import note
from edgepack.oci.descriptor import Platform


@click.command("receipt")
@click.option("-o", "--out", "path", type=OUTPUT, help="The file.  [default: stdout]")
@on_device
def command(device: Device, path: Path | None) -> None:
    """Write what the device holds, so that the next bundle can leave it out: edgepack bundle create --since FILE."""
    from edgepack.bundle.receipt import Receipt
    from edgepack.host.files import atomic_write

    if (device.root / STORE).exists():
        receipt = Receipt.of_store(device.store, device.name, Platform.host())
    else:  # which reading does not make
        receipt = Receipt(device.name, Platform.host(), frozenset())
        note(f"no images in {device.root}; import some with: edge-agent import BUNDLE")
    data = receipt.to_bytes()
    if path is None:
        click.echo(data.decode())
    else:
        atomic_write(path, data)
