"""Giving disk space back: images that no service runs or can return to are removed, with all that only they need."""

from __future__ import annotations

import logging
from collections.abc import Collection

from edge_agent.device import Device
from edge_agent.state.records import ServiceRecord
from edgepack.errors import EdgepackError
from edgepack.oci.digest import Digest
from edgepack.oci.upkeep import remove_images

_log = logging.getLogger(__name__)


def needed(services: Collection[ServiceRecord]) -> frozenset[Digest]:
    """The images that services run, that a rollback returns to, and that a failed update falls back to."""
    found = set()
    for record in services:
        found.add(record.current.spec.image)
        for other in (record.last_good, record.fallback(record.current.spec)):
            if other is not None:
                found.add(other.spec.image)
    return frozenset(found)


def give_back(device: Device) -> int:
    """Remove what ran once and is not needed any more; returns the bytes that left the store.

    The caller is changing the device. An image that was imported and never run stays, and so does one whose runtime
    does not answer now: the next call removes it. Killed in the middle, the next call finishes.
    """
    kept = needed(device.state.services().values())
    spent = {image: runtimes for image, runtimes in device.state.past().items() if image not in kept}
    held = {image: runtimes for image, runtimes in spent.items() if device.store.has_digest(image)}
    if not held:
        return 0
    device.state.give_up(held)
    gone = {image for image, runtimes in held.items() if _forget(device, image, runtimes)}
    if not gone:
        return 0
    freed = remove_images(device.store, gone, kept)
    device.state.forget(gone)
    _log.info("removed images that ran before and that nothing needs any more: %d, %d bytes", len(gone), freed)
    return freed


def _forget(device: Device, image: Digest, runtimes: Collection[str]) -> bool:
    """Let the runtimes that ran the image remove what they made of it; returns whether all have."""
    try:
        manifest = device.manifest_of(image)
    except EdgepackError:  # damaged, so that it cannot be run either; its blobs go
        manifest = image
    try:
        for name in runtimes:
            device.runtime_named(name).forget_image(manifest)
    except (EdgepackError, OSError) as error:
        _log.warning("image %s is kept for now: %s", image, error)
        return False
    return True
