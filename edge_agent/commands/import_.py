"""``edge-agent import``"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edge_agent.commands.options import allow_unsigned, common, naming_trust, short_keys
from edge_agent.device import Device
from edgepack.errors import BadPartsError, EdgepackError, MissingPartsError
from edgepack.host.commands import INPUT, OUTPUT
from edgepack.host.console import answer, human, note
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest

_log = logging.getLogger(__name__)


@click.command("import")
@click.argument("paths", type=INPUT, nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--bring-me",
    type=OUTPUT,
    metavar="FILE",
    help="Where parts are missing or bad, write a file that asks for them: edgepack bundle create --only FILE.",
)
@allow_unsigned
@common
def command(device: Device, paths: tuple[Path, ...], bring_me: Path | None, allow_unsigned: bool, output: str) -> None:
    """Verify bundles and import their images; nothing is started.

    PATH is a bundle, a part of one, or a folder with bundles or parts, such as a stick's. Parts may come in any order
    and from several sticks, one after the other: what came is kept. Nothing is written to where they are.
    """
    from edgepack.bundle.receive import import_media

    with device.receiving(), naming_trust(), _asking(bring_me):
        report = import_media(
            paths, device.store, device.trust.keys(), allow_unsigned=allow_unsigned, platform=Platform.host()
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


@contextmanager
def _asking(path: Path | None) -> Iterator[None]:
    """Write the document that asks for missing and bad parts to ``path``, where there are such."""
    from edgepack.host.files import BY_UMASK, atomic_write

    try:
        yield
    except (MissingPartsError, BadPartsError) as error:
        if path is not None:
            atomic_write(path, error.wanted, BY_UMASK)
            way = f"edgepack bundle create --only {path} -o FOLDER/"
            note(f"what to bring is in {path}; where the bundle was made: {way}")
        raise


def _try_again(device: Device, images: list[Digest]) -> None:
    """Let services try again whose goal failed for want of ``images``; a damaged state does not spoil the import."""
    from edge_agent.reconcile.runner import Runner

    try:
        if device.exists:
            Runner(device).look_again(images)
    except EdgepackError as error:
        _log.warning("services that waited for these images are not told: %s", error)
