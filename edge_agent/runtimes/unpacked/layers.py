"""Unpacked layers by diff ID: ``layers/<hex of the diff ID>/`` is the complete tree of a layer, or does not exist."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from edge_agent.runtimes.unpacked.inventory import (
    discard_tree,
    forget_linked_trees,
    forget_records,
    is_intact,
    put_in_place,
)
from edgepack.errors import DigestMismatchError, NoSpaceError, UnsafeArchiveError, VerificationError, disk_errors
from edgepack.host.files import locked, make_dirs, temporary_beside
from edgepack.host.ownership import open_to_others
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.foreign import unpack_foreign_layer
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.unpack import UnpackLimits
from edgepack.oci.whiteouts import RefuseWhiteouts, Whiteouts

_log = logging.getLogger(__name__)


class LayerCache:
    """The unpacked layers below ``root``; several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, diff_id: Digest) -> Path:
        """Where the layer's tree is, or would be."""
        return self.root / diff_id.hex

    def has(self, diff_id: Digest) -> bool:
        """Whether the layer is unpacked."""
        return self.path(diff_id).is_dir()

    def is_intact(self, diff_id: Digest, *, thorough: bool = False) -> bool:
        """Whether the layer is unpacked and as it was then; ``thorough`` reads every file."""
        return is_intact(self.path(diff_id), thorough=thorough)

    def create(self) -> None:
        """Create the folder, or give an existing one its mode."""
        if open_to_others(self.root):
            _log.warning("%s was open to other users; what is unpacked there is compared with its layers", self.root)
            forget_records(self.root)
        make_dirs(self.root, 0o700)  # world-writable folders of images must be out of reach for other users

    def check_space(self, layers: Iterable[Descriptor]) -> None:
        """Raise ``NoSpaceError``, with the numbers, when ``layers`` say that they unpack to more than is free."""
        needed = sum(size for layer in layers if (size := _stated_size(layer)) is not None)
        with disk_errors(self.root):
            disk = os.statvfs(self.root)
        free = disk.f_bavail * disk.f_frsize
        if needed > free:
            raise NoSpaceError(
                f"{needed} bytes are needed to unpack the image and {free} are free", where=self.root,
                hint="free some space and run the same command again",
            )  # fmt: skip

    def ensure(
        self,
        store: Store,
        layer: Descriptor,
        diff_id: Digest,
        whiteouts: Whiteouts | None = None,
        *,
        thorough: bool = False,
    ) -> Path:
        """Unpack ``layer`` from ``store`` unless it is unpacked and intact, and return the folder of its tree.

        A damaged tree is mended in its place. The blob and the plain tar are hashed while they are unpacked. Raises
        ``NotFoundError`` without the blob, ``VerificationError`` for one that is not what its names say or must not be
        unpacked, ``NoSpaceError``.
        """  # fmt: skip
        target = self.path(diff_id)
        self.create()
        if self.is_intact(diff_id, thorough=thorough):
            return target
        with locked(self.root / f"{diff_id.hex}.lock"):
            if not self.is_intact(diff_id, thorough=thorough):  # another process may have been quicker
                if target.exists():
                    _log.warning("layer %s is not as it was unpacked; it is unpacked again", diff_id)
                    forget_linked_trees(self.root)
                self._unpack(store, layer, diff_id, whiteouts or RefuseWhiteouts())
        return target

    def remove(self, diff_id: Digest) -> None:
        """Remove the unpacked layer; absent is fine."""
        if not self.root.is_dir():
            return
        with locked(self.root / f"{diff_id.hex}.lock"):
            discard_tree(self.path(diff_id))
        # The lock's file stays: whoever waits on it must not share the name with a lock on a new file.

    def _unpack(self, store: Store, layer: Descriptor, diff_id: Digest, whiteouts: Whiteouts) -> None:
        limit = _announced_size(layer)
        with store.open(layer) as blob, temporary_beside(self.path(diff_id), 0o755) as temporary:
            verified = cast(BinaryIO, VerifyingReader(blob, layer.digest, layer.size, where=f"layer {layer.digest}"))
            plain = _Hashing(decompressed(verified, layer, limit))
            limits = UnpackLimits(content_bytes=limit)
            try:
                unpack_foreign_layer(cast(BinaryIO, plain), temporary, limits=limits, whiteouts=whiteouts)
            except VerificationError as error:
                # That the blob was altered explains more than what else is wrong with it, and lets it be fetched again.
                _read_to_end(verified)
                if not isinstance(error, UnsafeArchiveError):
                    raise
                raise UnsafeArchiveError(
                    f"cannot be unpacked ({error})", where=f"layer {layer.digest}",
                    hint="it came as it was made: build the image again, on another base if the base brings it",
                ) from error  # fmt: skip
            _read_to_end(verified)
            if plain.hexdigest() != diff_id.hex:
                raise DigestMismatchError(
                    f"unpacks to sha256:{plain.hexdigest()}, and the image's diff ID is {diff_id}",
                    where=f"layer {layer.digest}",
                    hint="build the image again",
                )
            put_in_place(temporary, self.path(diff_id), "sha256")


def _read_to_end(verified: BinaryIO) -> None:
    """Read all of it, for it is verified at the last byte; a decompressor may stop before."""
    for _ in iter(lambda: verified.read(LIMITS.chunk_bytes), b""):
        pass


class _Hashing:
    """A stream that hashes what is read from it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, amount: int = -1) -> bytes:
        data = self._source.read(amount)
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _stated_size(layer: Descriptor) -> int | None:
    text = layer.annotations.get(mediatypes.LAYER_UNPACKED, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _announced_size(layer: Descriptor) -> int:
    stated = _stated_size(layer)
    return LIMITS.layer_unpacked_bytes if stated is None else stated
