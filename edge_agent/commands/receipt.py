"""``edge-agent receipt``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_agent.commands.options import on_device
from edge_agent.device import STORE, Device
from edgepack.errors import NotFoundError
from edgepack.host.commands import OUTPUT
from edgepack.host.console import note
from edgepack.oci.descriptor import Platform


@click.command("receipt")
@click.option("-o", "--out", "path", type=OUTPUT, help="The file.  [default: stdout]")
@on_device
def command(device: Device, path: Path | None) -> None:
    """Write what the device holds, so that the next bundle can leave it out: edgepack bundle create --since FILE.

    It is signed with the device's own key, where edge-agent init has made one.
    """
    from edge_agent.identity.key import read_device_key
    from edgepack.bundle.receipt import Receipt
    from edgepack.host.files import atomic_write
    from edgepack.host.media import free_bytes

    serials = [one.serial for one in device.recorded()[1].documents.values() if one.serial is not None]
    serial, glibc = max(serials, default=None), _glibc()
    if (device.root / STORE).exists():
        free = free_bytes(device.root / STORE)
        receipt = Receipt.of_store(
            device.store, device.name, Platform.host(), serial=serial, free_bytes=free, glibc=glibc
        )
    else:  # which reading does not make
        receipt = Receipt(device.name, Platform.host(), frozenset(), serial, None, glibc)
        note(f"no images in {device.root}; import some with: edge-agent import BUNDLE")
    try:
        data = receipt.signed(read_device_key(device.root))
    except NotFoundError:
        data = receipt.to_bytes()
    if path is None:
        click.echo(data.decode())
    else:
        atomic_write(path, data)


def _glibc() -> str | None:
    """The version of the C library, where it is glibc (confstr(3))."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        return None
    return version if name == "glibc" and version else None
