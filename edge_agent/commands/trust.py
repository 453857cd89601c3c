"""``edge-agent trust``"""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.commands.options import common, read_file
from edge_agent.device import Device
from edgepack.host.commands import INPUT
from edgepack.host.console import answer


@click.command("trust")
@click.argument("key", type=INPUT)
@common
def command(device: Device, key: Path, output: str) -> None:
    """Trust what the holder of the public KEY (a PEM file) signs."""
    from edgepack.signing.keys import PublicKey

    data = read_file(key, hint="write one with: edgepack key export")
    PublicKey.from_pem(data, key)  # so that its error names the file
    found = device.trust.add(data)
    answer(output, {"key_id": found.id}, [{"trusted": found.id}])
