"""``edge-agent import``"""

from __future__ import annotations

import logging
from pathlib import Path

import click

from edge_agent.commands.options import allow_unsigned, common, naming_trust, short_keys
from edge_agent.device import Device
from edgepack.errors import EdgepackError
from edgepack.host.commands import INPUT
from edgepack.host.console import answer, human, note
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest

_log = logging.getLogger(__name__)


@click.command("import")
@click.argument("path", type=INPUT)
@allow_unsigned
@common
def command(device: Device, path: Path, allow_unsigned: bool, output: str) -> None:
    """Verify the bundle at PATH and import its images; nothing is started."""
    from edgepack.bundle.read import import_bundle

    with device.receiving(), naming_trust():
        report = import_bundle(
            path, device.store, device.trust.keys(), allow_unsigned=allow_unsigned, platform=Platform.host()
        )
    _try_again(device, [one.digest for one in report.images])
    images = [{"name": one.name, "digest": str(one.digest), "signed_by": list(one.key_ids)} for one in report.images]
    answer(
        output,
        {"images": images, "moved_bytes": report.moved_bytes, "present_bytes": report.present_bytes},
        [
            {"image": one.name, "digest": one.digest.short, "signed_by": short_keys(one.key_ids)}
            for one in report.images
        ],
    )
    for one in report.images:
        note(f"the digest of {one.name} is {one.digest}")
    note(f"imported {human(report.moved_bytes)}; {human(report.present_bytes)} already present")


def _try_again(device: Device, images: list[Digest]) -> None:
    """Let services try again whose goal failed for want of ``images``; a damaged state does not spoil the import."""
    from edge_agent.reconcile.runner import Runner

    try:
        if device.exists:
            Runner(device).look_again(images)
    except EdgepackError as error:
        _log.warning("services that waited for these images are not told: %s", error)
