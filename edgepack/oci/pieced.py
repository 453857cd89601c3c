"""A blob that comes in pieces, in any order, perhaps over days: one sparse file beside the blobs, until it is whole.

Beside the file stands which ranges are in it, each verified and on the disk. So what a blob takes while it comes is
what it takes afterwards, and an import that was interrupted asks for no piece twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from edgepack.errors import DigestMismatchError, SizeMismatchError, disk_errors
from edgepack.host.files import atomic_write, make_dirs, publish
from edgepack.host.ownership import give_to_owner_of
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store

SUFFIX = ".pieces"
_RANGES = ".ranges"
# The first byte, and the one after the last; in order, and apart from each other.
Ranges = list[tuple[int, int]]


class PiecedBlob:
    """The blob ``descriptor`` on its way into ``store``, by one writer at a time. Use as a context manager."""

    def __init__(self, store: Store, descriptor: Descriptor) -> None:
        self._store = store
        self._descriptor = descriptor
        self._path = store.unfinished_path(descriptor.digest, SUFFIX)
        # The hash of the blob's beginning, as far as pieces have come in order.
        self._hash = hashlib.sha256()
        self._hashed = 0

    def __enter__(self) -> Self:
        make_dirs(self._path.parent)
        with disk_errors(self._path):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._file = os.fdopen(fd, "r+b", buffering=0)
            give_to_owner_of(self._path.parent, self._path, fd)
        self._ranges = _read_ranges(self._path, os.fstat(fd).st_size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._ranges:
            self.discard()

    def has(self, offset: int, size: int) -> bool:
        """Whether that piece has come."""
        return _within(self._ranges, offset, offset + size)

    def put(self, offset: int, size: int, digest: Digest, stream: BinaryIO) -> None:
        """Take the piece from ``stream``; raises ``SizeMismatchError`` or ``DigestMismatchError``, and it has not come.

        ``NoSpaceError`` when the disk is full.
        """
        found = hashlib.sha256()
        follows = offset == self._hashed
        left = size
        with disk_errors(self._path):
            if _without(self._ranges, offset, offset + size) != self._ranges:  # what is written over may become worse
                self._note(_without(self._ranges, offset, offset + size))
            self._file.seek(offset)
        while left and (chunk := stream.read(min(left, LIMITS.chunk_bytes))):
            left -= len(chunk)
            found.update(chunk)
            if follows:
                self._hash.update(chunk)
            with disk_errors(self._path):
                _write(self._file, chunk)
        where = f"piece at {offset} of blob {self._descriptor.digest}"
        if follows:  # also after a piece that is bad: then the blob is read again at the end
            self._hashed = offset + size if not left and found.hexdigest() == digest.hex else -1
        if left:
            raise SizeMismatchError(f"ends after {size - left} of {size} bytes", where=where, hint="copy it again")
        if found.hexdigest() != digest.hex:
            raise DigestMismatchError(f"hashes to sha256:{found.hexdigest()}", where=where, hint="copy it again")
        with disk_errors(self._path):
            os.fsync(self._file.fileno())
            self._note(_with(self._ranges, offset, offset + size))

    def _note(self, ranges: Ranges) -> None:
        self._ranges = ranges
        atomic_write(_beside(self._path), json.dumps(ranges).encode())

    def finish(self) -> bool:
        """Make the blob appear when all of it has come; raises ``DigestMismatchError``, and then nothing is kept."""
        if not self.has(0, self._descriptor.size):
            return False
        with disk_errors(self._path):
            self._file.truncate(self._descriptor.size)
            if self._hashed != self._descriptor.size:
                self._file.seek(0)
                self._hash = hashlib.sha256()
                while chunk := self._file.read(LIMITS.chunk_bytes):
                    self._hash.update(chunk)
        if self._hash.hexdigest() != self._descriptor.digest.hex:
            self.discard()
            raise DigestMismatchError(
                f"its pieces hash to sha256:{self._hash.hexdigest()}", where=f"blob {self._descriptor.digest}",
                hint="copy the bundle again",
            )  # fmt: skip
        with disk_errors(self._path):
            os.fsync(self._file.fileno())
            publish(self._path, self._store.path(self._descriptor.digest))
            _beside(self._path).unlink(missing_ok=True)
        return True

    def discard(self) -> None:
        """Forget what has come."""
        self._ranges = []
        for path in (_beside(self._path), self._path):
            path.unlink(missing_ok=True)


def pieces_bytes(store: Store, descriptor: Descriptor) -> int:
    """How many bytes of the blob have come in pieces, and take up disk space already."""
    path = store.unfinished_path(descriptor.digest, SUFFIX)
    with suppress(FileNotFoundError):
        return sum(end - start for start, end in _read_ranges(path, path.stat().st_size))
    return 0


def has_piece(store: Store, descriptor: Descriptor, offset: int, size: int) -> bool:
    """Whether that piece of the blob has come."""
    path = store.unfinished_path(descriptor.digest, SUFFIX)
    with suppress(FileNotFoundError):
        return _within(_read_ranges(path, path.stat().st_size), offset, offset + size)
    return False


def _read_ranges(path: Path, length: int) -> Ranges:
    """The ranges that are noted, as far as the file has them; none where the note is damaged: they come again."""
    found: Ranges = []
    try:
        for start, end in json.loads(_beside(path).read_bytes()):
            if 0 <= int(start) < int(end) <= length:
                found = _with(found, int(start), int(end))
    except (OSError, ValueError, TypeError):
        return []
    return found


def _with(ranges: Ranges, start: int, end: int) -> Ranges:
    """``ranges``, which do not touch each other, and one more."""
    apart = [one for one in ranges if one[1] < start or one[0] > end]
    joined = [one for one in ranges if one not in apart]
    return sorted([*apart, (min([start, *(a for a, _ in joined)]), max([end, *(b for _, b in joined)]))])


def _without(ranges: Ranges, start: int, end: int) -> Ranges:
    left = [piece for a, b in ranges for piece in ((a, min(b, start)), (max(a, end), b))]
    return sorted({(a, b) for a, b in left if a < b})


def _within(ranges: Ranges, start: int, end: int) -> bool:
    return any(a <= start and end <= b for a, b in ranges)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + _RANGES)


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
