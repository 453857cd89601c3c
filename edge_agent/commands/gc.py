"""``edge-agent gc``"""

from __future__ import annotations

import click

from edge_agent.commands.options import common
from edge_agent.device import STORE, Device
from edgepack.host.console import answer, human, note


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option(
    "--forget-removed", is_flag=True,
    help="Forget the services that were removed, too: no rollback brings them back then.",
)  # fmt: skip
@common
def command(device: Device, dry_run: bool, forget_removed: bool, output: str) -> None:
    """Remove images that no service runs or can return to, imported ones that never ran among them."""
    from edge_agent.reconcile.space import Collected, collect, removed

    found, forgotten = Collected((), 0), tuple[str, ...]()
    if (device.root / STORE).exists():
        with device.changing():
            device.make_room()
            forgotten = removed(device) if forget_removed else ()
            found = collect(device, dry_run=dry_run, forgotten=forgotten)
    images = [{"digest": str(digest), "tag": tag} for digest, tag in found.images]
    answer(
        output,
        {"images": images, "freed_bytes": found.freed_bytes, "dry_run": dry_run, "forgotten": list(forgotten)},
        [{"image": tag or f"sha256:{digest.short}", "digest": digest.short} for digest, tag in found.images],
    )
    if forgotten:
        note(f"services that {'would be' if dry_run else 'were'} forgotten: {', '.join(forgotten)}")
    note(f"{human(found.freed_bytes)} {'would be' if dry_run else 'were'} removed from the store")
