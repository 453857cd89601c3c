"""How much disk an image will take from here on; and whether that much is free."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import NoSpaceError, disk_errors
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor

# Blobs take whole blocks, and so do the files that are unpacked.
_BLOCK = 4096
_MARGIN_PERCENT = 5
# What a layer of others unpacks to, at a guess: text shrinks to a quarter, programs to less than a half.
_TIMES_GZIP, _TIMES_ZSTD = 3, 4


@dataclass(frozen=True)
class Need:
    """Bytes: what is downloaded, what it unpacks to, a margin for the rest, and what is to stay free."""

    download: int
    unpack: int
    margin: int
    floor: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.download + self.unpack + self.margin + self.floor

    def __str__(self) -> str:
        return (
            f"{self.total} bytes are needed ({self.download} to download, {self.unpack} to unpack,"
            f" {self.margin} for what goes with it, {self.floor} that stay free)"
        )


def need(missing: Sequence[tuple[Descriptor, int]], unpacked: Sequence[Descriptor], floor: int) -> Need:
    """What ``missing`` blobs, each with the bytes of it that are here, and the layers ``unpacked`` will take."""
    download = sum(max(0, blob.size - here) + _BLOCK for blob, here in missing)
    unpack = sum(map(unpacked_size, unpacked))
    margin = LIMITS.import_margin_bytes + (download + unpack) * _MARGIN_PERCENT // 100 if missing or unpacked else 0
    return Need(download, unpack, margin, floor)


def unpacked_size(layer: Descriptor) -> int:
    """What a layer unpacks to: as it says, or at a guess."""
    stated = layer.annotations.get(mediatypes.LAYER_UNPACKED, "")
    if stated.isascii() and stated.isdigit() and len(stated) < 16:
        return int(stated)
    if layer.media_type in mediatypes.GZIP_LAYERS:
        return layer.size * _TIMES_GZIP
    return layer.size * (_TIMES_ZSTD if layer.media_type in mediatypes.ZSTD_LAYERS else 1)


def free(folder: Path) -> int:
    """The bytes that are free where ``folder`` is, or will be."""
    place = next(one for one in (folder, *folder.parents) if one.exists())
    with disk_errors(place):
        disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize


def lacking(found: Need, folder: Path) -> int:
    """How many bytes are missing for ``found``; 0 where there are enough, and where nothing is to be written."""
    return max(0, found.total - free(folder)) if found.total > found.floor else 0


def check(found: Need, folder: Path) -> None:
    """Raise ``NoSpaceError``, with the figures, where ``found`` does not fit."""
    if lacking(found, folder):
        raise NoSpaceError(
            f"{found} and {free(folder)} are free", where=folder,
            hint="free some space, as by edge-agent gc, and try again",
        )  # fmt: skip
