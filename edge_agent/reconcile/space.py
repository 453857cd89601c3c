"""Giving disk space back: images that no service runs or can return to are removed, with all that only they need.

After an update those that ran before; when it is asked for, those that never ran too. What a service that was removed
returns to stays until the service is forgotten: when that is asked for, and before the disk is full.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.device import Device
from edge_agent.reconcile.plan import rollback_target
from edge_agent.runtimes.instances import forget_log
from edge_agent.state.goals import Goal, Stage
from edge_agent.state.records import ServiceRecord
from edge_agent.state.reserve import files_left
from edgepack.errors import EdgepackError
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.platforms import needs
from edgepack.oci.store import Store
from edgepack.oci.upkeep import images, remove_blobs, remove_images, spare, unreached, wanted
from edgepack.state.reported import ServiceState
from edgepack.text import human

_log = logging.getLogger(__name__)
_SETTLED = (Stage.DONE, Stage.FAILED)
# How long making room waits for who keeps the device: a download may take hours, and does not want it either.
_PATIENCE_SECONDS = 10.0
_FEW_FILES = 256


def needed(services: Collection[ServiceRecord], goals: Collection[Goal] = ()) -> frozenset[Digest]:
    """The images that services run, that rollbacks and failed updates return to, and that are coming.

    A service that was removed keeps what a rollback runs again.
    """
    found = {goal.spec.image for goal in goals if goal.stage not in _SETTLED and goal.spec.status == "running"}
    for record in services:
        if record.state is ServiceState.REMOVED:
            target = rollback_target(record)
            found |= set() if target is None else {target.spec.image}
            continue
        found.add(record.current.spec.image)
        for other in (record.last_good, record.fallback(record.current.spec)):
            if other is not None:
                found.add(other.spec.image)
    return frozenset(found)


def relieve(device: Device, floor_bytes: int = 0) -> int:
    """Make room before the disk is full: remove what ran before and what nothing needs, and what belongs to no image.

    Where that frees nothing, or less than ``floor_bytes`` are left then, services that were removed are forgotten, and
    what a rollback of them needed goes too. Returns the bytes that left the disk, as it counts them. For when nobody
    asked: an image that was imported and has not run stays, and so does what was downloaded of one that is coming; what
    was downloaded of another one, and is not whole, goes. Raises ``EdgepackError`` where another command keeps the
    device.
    """
    before = _free_bytes(device)
    with device.changing(_PATIENCE_SECONDS):
        device.make_room()
        if not _remove_spent(device) or _free_bytes(device) < floor_bytes:
            for name in removed(device):
                forget_service(device, name)
                _log.warning("service %s, which was removed, is forgotten: the disk is getting full", name)
            _remove_spent(device)
    return max(0, _free_bytes(device) - before)


def _remove_spent(device: Device) -> int:
    """Remove what nobody returns to, and what belongs to no image; returns the bytes that left the store."""
    store, freed = device.store, give_back(device)
    kept = _kept(device)
    freed += remove_images(store, _half(store, kept.images), kept.images)
    if not kept.coming:
        store.drop_unfinished(wanted(store))
        freed += remove_blobs(store, unreached(store, kept.images))
    return freed


def removed(device: Device) -> tuple[str, ...]:
    """The services that were removed, and that nothing desires again."""
    goals = device.state.goals()
    return tuple(
        name
        for name, record in device.state.services().items()
        if record.state is ServiceState.REMOVED and (name not in goals or goals[name].spec.status == "removed")
    )


def forget_service(device: Device, name: str) -> None:
    """Forget a service that was removed, with its log; its images are spent then, and ``give_back`` removes them."""
    device.state.forget_service(name)
    forget_log(device.root, name)


def _half(store: Store, kept: Collection[Digest]) -> list[Digest]:
    """The images that are not ``kept`` and not whole, as a download leaves them that something newer replaced."""
    found = []
    for image in images(store) - set(kept):
        with suppress(EdgepackError):  # one that cannot be read says nothing
            if not all(store.has(one) for one in needs(store, store.describe(image), Platform.host())):
                found.append(image)
    return found


def is_low(device: Device, floor_bytes: int) -> bool:
    """Whether less than ``floor_bytes``, or next to no files, are left on the device's disk."""
    return _free_bytes(device) < floor_bytes or files_left(_place(device)) < _FEW_FILES


def _free_bytes(device: Device) -> int:
    disk = os.statvfs(_place(device))
    return disk.f_bavail * disk.f_frsize


def _place(device: Device) -> Path:
    return next(path for path in (device.root, *device.root.parents) if path.exists())


@dataclass(frozen=True)
class _Kept:
    """What stays: ``images``, and with ``coming`` what is here of one that is not here yet, and belongs to no image."""

    images: frozenset[Digest]
    coming: bool


def _kept(device: Device, forgotten: Collection[str] = ()) -> _Kept:
    services = [record for name, record in device.state.services().items() if name not in forgotten]
    images = needed(services, device.state.goals().values())
    # Those of services are to be here: without them it is not known what they need, and nothing is removed.
    absent = {image for image in images - needed(services) if not device.store.has_digest(image)}
    return _Kept(images - absent, bool(absent))


def give_back(device: Device) -> int:
    """Remove what ran once and is not needed any more; returns the bytes that left the store.

    The caller is changing the device. An image that was imported and never run stays, and so does one whose runtime
    does not answer now: the next call removes it. Killed in the middle, the next call finishes.
    """
    kept = _kept(device).images
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
    _log.info("removed images that ran before and that nothing needs any more: %d (%s)", len(gone), human(freed))
    return freed


@dataclass(frozen=True)
class Collected:
    """What was removed, or would be: images by their digests and tags, and bytes of the store."""

    images: tuple[tuple[Digest, str | None], ...]
    freed_bytes: int


def collect(device: Device, *, dry_run: bool, forgotten: Collection[str] = ()) -> Collected:
    """Remove every image that no service runs or can return to, and what interrupted imports left.

    The services ``forgotten``, which were removed, are forgotten before. With ``dry_run`` nothing is removed. The
    caller is changing the device.
    """
    store = device.store
    if not dry_run:
        for name in forgotten:
            forget_service(device, name)
    found = _kept(device, forgotten)
    kept = found.images
    past = device.state.past()
    everywhere = {name for runtimes in past.values() for name in runtimes}
    names = {one.digest: tag for tag, one in store.tags().items()}
    before = {digest: store.path(digest).stat().st_size for digest in store.digests()}
    running = {_manifest_of(device, image) for image in kept}
    unwanted = [
        image
        for image in sorted(images(store), key=str)
        if image not in kept and _manifest_of(device, image) not in running
    ]
    if dry_run:
        going = spare(store, unwanted, kept) | (frozenset() if found.coming else unreached(store, kept))
        named = tuple((image, names.get(image)) for image in unwanted if image in going)
        return Collected(named, sum(before[digest] for digest in going if digest in before))
    device.state.give_up(unwanted)
    gone = [image for image in unwanted if _forget(device, image, past.get(image, frozenset(everywhere)))]
    remove_images(store, gone, kept)
    device.state.forget(gone)
    if not found.coming:
        store.drop_unfinished(wanted(store))  # what is half here of an image that is coming goes on
        remove_blobs(store, unreached(store, kept))
    left = store.digests()
    freed = sum(size for digest, size in before.items() if digest not in left)
    return Collected(tuple((image, names.get(image)) for image in gone if image not in left), freed)


def _forget(device: Device, image: Digest, runtimes: Collection[str]) -> bool:
    """Let the runtimes that ran the image remove what they made of it; returns whether all have."""
    manifest = _manifest_of(device, image)
    try:
        for name in runtimes:
            device.runtime_named(name).forget_image(manifest)
    except (EdgepackError, OSError) as error:
        _log.warning("image %s is kept for now: %s", image, error)
        return False
    return True


def _manifest_of(device: Device, image: Digest) -> Digest:
    """What runs here for ``image``; itself where that cannot be said: damaged, or for another platform."""
    try:
        return device.manifest_of(image)
    except EdgepackError:
        return image
