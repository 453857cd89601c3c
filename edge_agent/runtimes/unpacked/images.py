"""Images that run from unpacked layers, for the runtimes that have no engine of their own.

``images/<image>.<runtime>.json`` names the layers that an image needs; it is written before the first of them is
unpacked, so that removing one image never removes a layer of another.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.runtimes.unpacked.layers import LayerCache
from edge_agent.runtimes.unpacked.users import with_numbers
from edgepack.documents import canonical_json
from edgepack.errors import IncompatibleError, InvalidDocumentError, NotFoundError
from edgepack.host.files import atomic_write, fsync_dir, locked, make_dirs
from edgepack.host.ownership import open_to_others
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.oci.whiteouts import KeptWhiteouts, Whiteouts

_log = logging.getLogger(__name__)
# Which of an image's layers a runtime needs.
LayerChoice = Callable[[Digest, ImageConfig, Sequence[Descriptor]], Sequence[bool]]
_QEMU = {"arm64": "qemu-aarch64", "amd64": "qemu-x86_64", "arm": "qemu-arm"}


@dataclass(frozen=True)
class UnpackedImage:
    """An image whose layers are unpacked: its configuration, and the layers' folders, base first.

    The configuration's user is a number where the image's files name it.
    """

    digest: Digest
    config: ImageConfig
    layers: tuple[Path, ...]


def read_image(store: Store, image: Digest) -> tuple[Manifest, ImageConfig]:
    """The image's manifest and configuration, verified.

    Raises ``NotFoundError``, ``VerificationError``, ``InvalidDocumentError``, and ``IncompatibleError`` when ``image``
    names several images or none.
    """
    descriptor = store.describe(image)
    if descriptor.media_type not in mediatypes.MANIFESTS:
        raise IncompatibleError("names an index, not one image", where=image, hint="name the image of this platform")
    manifest = store.manifest(descriptor)
    if manifest.config.media_type not in mediatypes.CONFIGS:
        raise IncompatibleError("is an artifact, not an image", where=image)
    config = ImageConfig.from_bytes(store.read(manifest.config), f"configuration of {image}")
    config.check_layers(manifest.layers, f"image {image}")
    return manifest, config


def verify_blobs(store: Store, blobs: Sequence[Descriptor]) -> None:
    """Read the blobs; raises ``NotFoundError`` for one that is missing and ``VerificationError`` for an altered one."""
    for blob in blobs:
        with store.open(blob) as file:
            reader = VerifyingReader(file, blob.digest, blob.size)
            while reader.read(LIMITS.chunk_bytes):
                pass


def check_platform(image: Digest, config: ImageConfig) -> None:
    """Raise ``IncompatibleError`` for an image whose programs this machine cannot run, not even by emulation."""
    host = Platform.host()
    if (config.platform.os, config.platform.architecture) == (host.os, host.architecture):
        return
    emulator = Path("/proc/sys/fs/binfmt_misc") / _QEMU.get(config.platform.architecture, "none")
    if config.platform.os != host.os or not emulator.exists():
        raise IncompatibleError(
            f"is for {config.platform} and this machine is {host}",
            where=f"image {image}",
            hint=f"build it for {host}",
        )


class UnpackedImages:
    """The images below ``state`` that the runtime ``owner`` has prepared from ``store``."""

    def __init__(self, state: Path, store: Store, owner: str, whiteouts: Whiteouts) -> None:
        # Two forms of what hides a file must not meet: root may have been allowed to mount overlays at other times.
        kept_by_root = os.geteuid() == 0 and isinstance(whiteouts, KeptWhiteouts)
        self.layers = LayerCache(state / ("layers-kept" if kept_by_root else "layers"))
        self._folder = state / "images"
        self._store = store
        self._owner = owner
        self._whiteouts = whiteouts

    def prepare(self, image: Digest, choose: LayerChoice, *, thorough: bool = False) -> UnpackedImage:
        """Unpack the layers of the image that ``choose`` selects; ``choose`` may raise an error to refuse the image.

        What is unpacked and damaged is mended; ``thorough`` reads all of it to see. Raises what ``read_image`` and
        ``LayerCache.ensure`` raise, and ``NotFoundError`` when what is needed for that is not in the store.
        """
        if open_to_others(self._folder):
            for path in self._folder.glob("*.json"):
                path.unlink(missing_ok=True)
        make_dirs(self._folder, 0o700)
        self.layers.create()
        ready = self.get(image)
        if ready is not None and self.is_intact(image, thorough=thorough):
            return ready
        manifest, config = read_image(self._store, image)
        chosen = choose(image, config, manifest.layers)
        pairs = [
            (layer, diff_id)
            for layer, diff_id, wanted in zip(manifest.layers, config.diff_ids, chosen, strict=True)
            if wanted
        ]
        intact = {diff_id for _, diff_id in pairs if self.layers.is_intact(diff_id, thorough=thorough)}
        for layer, diff_id in pairs:
            if diff_id not in intact and not self._store.has_digest(layer.digest):
                damaged = "is damaged where it is unpacked, and " if self.layers.has(diff_id) else ""
                raise NotFoundError(
                    f"layer {layer.digest} {damaged}is not in the device's store",
                    where=f"image {image}",
                    hint="import or pull the image again",
                )
        self.layers.check_space(layer for layer, diff_id in pairs if diff_id not in intact)
        if ready is None:
            record = {"config": json.loads(config.to_bytes()), "layers": [diff_id.hex for _, diff_id in pairs]}
            with locked(self._folder / ".lock"):
                atomic_write(self._record(image), canonical_json(record | {"sha256": _check(record)}), 0o600)
        for layer, diff_id in pairs:
            if diff_id not in intact:
                self.layers.ensure(self._store, layer, diff_id, self._whiteouts, thorough=thorough)
        return self._unpacked(image, config, [diff_id for _, diff_id in pairs])

    def is_intact(self, image: Digest, *, thorough: bool = True) -> bool:
        """Whether all that was unpacked of the image is as it was then."""
        _, diff_ids = self._read(self._record(image)) or (None, ())
        return bool(diff_ids) and all(self.layers.is_intact(diff_id, thorough=thorough) for diff_id in diff_ids)

    def get(self, image: Digest) -> UnpackedImage | None:
        """The image when it is prepared, whole; needs nothing from the store."""
        found = self._read(self._record(image))
        if found is None:
            return None
        config, diff_ids = found
        if len(diff_ids) != len(config.diff_ids):
            return None  # an earlier version did not unpack the base for plain processes
        if not all(self.layers.has(diff_id) for diff_id in diff_ids):
            return None
        return self._unpacked(image, config, diff_ids)

    def _unpacked(self, image: Digest, config: ImageConfig, diff_ids: Sequence[Digest]) -> UnpackedImage:
        layers = tuple(self.layers.path(diff_id) for diff_id in diff_ids)
        return UnpackedImage(image, with_numbers(config, layers), layers)

    def forget(self, image: Digest) -> None:
        """Remove the layers that no other image needs; absent is fine."""
        if not self._folder.is_dir():
            return
        with locked(self._folder / ".lock"):
            found = self._read(self._record(image))
            if found is None:
                return
            kept = {
                diff_id
                for path in self._folder.glob("*.json")
                if path != self._record(image)
                for diff_id in (self._read(path) or (None, ()))[1]
            }
            for diff_id in found[1]:
                if diff_id not in kept:
                    self.layers.remove(diff_id)
            # Last: if the process is killed before, the record still says what to remove.
            self._record(image).unlink(missing_ok=True)
            fsync_dir(self._folder)

    def _record(self, image: Digest) -> Path:
        return self._folder / f"{image.hex}.{self._owner}.json"

    @staticmethod
    def _read(path: Path) -> tuple[ImageConfig, tuple[Digest, ...]] | None:
        try:
            value = json.loads(path.read_bytes())
            if value.pop("sha256", None) != _check(value):
                raise ValueError("its bytes are not those that were written")
            config = ImageConfig.from_bytes(canonical_json(value["config"]), path)
            return config, tuple(Digest(text) for text in value["layers"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, InvalidDocumentError) as error:
            _log.warning("%s is damaged (%s); its image is prepared again when it is needed", path, error)
            return None


def _check(record: Mapping[str, Any]) -> str:
    """What shows that a record is whole: starting an image needs nothing of the store that would show it."""
    return Digest.of(canonical_json(record)).hex
