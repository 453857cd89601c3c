"""Wheels to layers: heavy wheels one layer each, the others together; made once, then found by their key."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.host.progress import Progress, unseen
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from packager.layers.compressors import write_best_layer
from packager.wheels.cache import Wheel
from packager.wheels.groups import WheelGroup
from packager.wheels.settings import LayerSettings
from packager.wheels.trim import RULES, TrimRule, dropped

HEAVY = 5_000_000


def group_wheels(
    wheels: Iterable[Wheel], rules: Sequence[TrimRule] = RULES, requested: Iterable[str] = ()
) -> tuple[WheelGroup, ...]:
    """Which wheels share a layer: those of 5 MB and more one each, by name, then the others in one.

    Distributions that ``rules`` leave out as a whole are not in there, unless they are in ``requested``.
    """
    listing = sorted(wheels, key=lambda wheel: (wheel.name, wheel.version, wheel.digest))
    out = dropped(listing, rules, requested)
    kept = [wheel for wheel in listing if wheel.name not in out]
    heavy = tuple(WheelGroup("wheel", wheel.title, (wheel,)) for wheel in kept if wheel.size >= HEAVY)
    light = tuple(wheel for wheel in kept if wheel.size < HEAVY)
    return (*heavy, WheelGroup("wheels", ", ".join(wheel.title for wheel in light), light)) if light else heavy


class WheelLayers:
    """Makes the layers of wheel groups in ``store`` and remembers them below ``<cache>/layers``."""

    def __init__(self, store: Store, cache: Path, settings: LayerSettings, progress: Progress = unseen) -> None:
        self._store = store
        self._cache = cache / "layers"
        self._settings = settings
        self._progress = progress

    def make(self, groups: Sequence[WheelGroup]) -> dict[WheelGroup, Layer]:
        """The layer of every group, made side by side where the store lacks it.

        Raises ``VerificationError`` for a wheel that is not what it says, ``NoSpaceError`` when the disk is full.
        """
        found = {group: self._cached(group) for group in groups}
        missing = [group for group, layer in found.items() if layer is None]
        # The largest first, so that the last one to finish is a small one.
        missing.sort(key=lambda group: -sum(wheel.size for wheel in group.wheels))
        if missing:
            from concurrent.futures import ThreadPoolExecutor

            make_dirs(self._cache)
            with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
                found |= dict(zip(missing, pool.map(self._made, missing), strict=True))
        return {group: layer for group, layer in found.items() if layer is not None}

    def _path(self, group: WheelGroup) -> Path:
        parts = [self._settings.key, group.kind, *(wheel.digest.hex for wheel in group.wheels)]
        return self._cache / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.json"

    def _cached(self, group: WheelGroup) -> Layer | None:
        try:
            layer = Layer.from_json(json.loads(self._path(group).read_bytes()))
        except (FileNotFoundError, ValueError, KeyError, TypeError, EdgepackError):
            return None  # never made, or not readable: made again
        return layer if self._store.has(layer.descriptor) else None

    def _made(self, group: WheelGroup) -> Layer:
        from packager.wheels.contents import wheel_entries

        with ExitStack() as stack:
            entries = [
                entry for wheel in group.wheels for entry in stack.enter_context(wheel_entries(wheel, self._settings))
            ]
            layer = write_best_layer(
                entries, self._store, kind=group.kind, title=group.title, mtime=self._settings.mtime,
                progress=self._progress,
            )  # fmt: skip
        atomic_write(self._path(group), json.dumps(layer.to_json(), sort_keys=True).encode())
        return layer
