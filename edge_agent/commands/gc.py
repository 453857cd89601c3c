"""``edge-agent gc``"""

from __future__ import annotations

import click

from edge_agent.commands.options import common
from edge_agent.device import STORE, Device
from edgepack.host.console import answer, human, note


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@common
def command(device: Device, dry_run: bool, output: str) -> None:
    """Remove images that no service runs or can return to, imported ones that never ran among them."""
    from edge_agent.reconcile.space import Collected, collect

    found = Collected((), 0)
    if (device.root / STORE).exists():
        with device.changing():
            device.make_room()
            found = collect(device, dry_run=dry_run)
    images = [{"digest": str(digest), "tag": tag} for digest, tag in found.images]
    answer(
        output,
        {"images": images, "freed_bytes": found.freed_bytes, "dry_run": dry_run},
        [{"image": tag or f"sha256:{digest.short}", "digest": digest} for digest, tag in found.images],
    )
    note(f"{human(found.freed_bytes)} {'would be' if dry_run else 'were'} removed from the store")
