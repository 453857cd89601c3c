"""The tar of a bundle, which is a function of its list: member by member, header byte by header byte.

So reading is comparing. A link, a device, a climbing name, a member too many or out of order, another owner or time:
each is a header that differs from the expected one, and nothing of it is interpreted except to say what it is.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from edgepack.errors import CutShortError, DigestMismatchError, SizeMismatchError, UnsafeArchiveError, VerificationError
from edgepack.host.inputs import open_regular
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.sources import BlobSource
from edgepack.oci.tar.header import BLOCK, END, padding, tar_header

LIST = "edgepack.bundle.json"
LAYOUT = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
INDEX = "index.json"
# At the end, where a bundle is an archive for Docker too.
DOCKER = "manifest.json"
_KINDS = {
    tarfile.LNKTYPE: "a link", tarfile.SYMTYPE: "a link", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe", tarfile.DIRTYPE: "a folder",
}  # fmt: skip

_HINTS = {
    "json": "a desired state is for 'edge-agent apply'; a bundle is made with 'edgepack bundle create'",
    "other": "make it with 'edgepack bundle create'",
}


def is_bundle(path: Path) -> bool:
    """Whether the regular file at ``path`` begins as a bundle does; raises ``OSError`` where it cannot be read."""
    with open_regular(path) as file:
        # POSIX, pax, "ustar Interchange Format": the name of the first file stands first.
        return file.read(len(LIST) + 1) == f"{LIST}\0".encode()


def blob_name(digest: Digest) -> str:
    """The member that holds a blob."""
    return f"blobs/sha256/{digest.hex}"


class TarWriter:
    """Writes the members of a bundle to ``file``, which may be a pipe; ``size`` is how many bytes so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0

    def add(self, name: str, size: int, content: Iterable[bytes]) -> None:
        """Append a member whose ``content`` has ``size`` bytes."""
        self._write(tar_header(name, size=size))
        for chunk in content:
            self._write(chunk)
        self._write(padding(size))

    def end(self) -> None:
        """Close the archive."""
        self._write(END)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)


class _Member:
    """The content of one member as a place that yields one blob."""

    def __init__(self, stream: BinaryIO, where: object, size: int, start: int | None) -> None:
        self._stream = stream
        self._where = where
        self._size = size
        self._start = start
        self._at = 0

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The member from ``offset`` on; from a pipe only forwards."""
        if self._start is not None:
            self._stream.seek(self._start + offset)
            self._at = offset
        elif offset < self._at:
            raise DigestMismatchError(
                f"what an earlier import left of {descriptor.digest} is damaged, and a pipe cannot be read twice",
                where=self._where,
                hint="run the same command again",
            )
        while self._at < offset:
            self.read(min(offset - self._at, LIMITS.chunk_bytes))
        yield cast(BinaryIO, self)

    def read(self, amount: int) -> bytes:
        """At most ``amount`` bytes; none at the end of the member."""
        amount = min(amount, self.left())
        data = self._stream.read(amount)
        if amount and not data:
            raise _cut_short(self._where)
        self._at += len(data)
        return data

    def left(self) -> int:
        """How many bytes have not been read."""
        return self._size - self._at


def _cut_short(where: object) -> CutShortError:
    return CutShortError("is cut short", where=where, hint="copy the bundle again")


class TarReader:
    """Reads the expected members of a bundle from ``stream``, which may be a pipe, and refuses everything else.

    Each method raises ``CutShortError`` when the stream ends too early, and ``UnsafeArchiveError`` or
    ``VerificationError`` for a member that is not the expected one. Memory stays flat but for ``first`` and ``read``.
    """

    def __init__(self, stream: BinaryIO, where: object) -> None:
        self._stream = stream
        self._where = where
        self._seekable = stream.seekable()
        self._expected: Collection[str] = ()

    def expecting(self, names: Collection[str]) -> None:
        """The names that may still come, to distinguish a misplaced member from an unknown one."""
        self._expected = frozenset(names)

    def first(self, name: str, limit: int) -> bytes:
        """The content of the first member, whose size is not known yet; at most ``limit`` bytes."""
        block = self._start()
        if len(block) < BLOCK and name.encode().startswith(block[: len(name)]):
            raise _cut_short(self._where)
        try:
            size = tarfile.TarInfo.frombuf(block, "ascii", "strict").size
        except (tarfile.HeaderError, ValueError):
            size = -1
        if not 0 <= size <= limit or block != tar_header(name, size=size):
            json = block.lstrip().startswith(b"{")
            raise VerificationError(
                f"is not a bundle: a tar whose first member is {name}, of at most {limit} bytes",
                where=self._where,
                hint=_HINTS["json" if json else "other"],
            )
        return self._content(size)

    def _start(self) -> bytes:
        """The first block, or all there is."""
        block = b""
        while len(block) < BLOCK and (data := self._stream.read(BLOCK - len(block))):
            block += data
        return block

    def read(self, name: str, digest: Digest, size: int) -> bytes:
        """The verified content of the next member, a small one."""
        self.enter(name, size)
        data = self._content(size)
        if hashlib.sha256(data).hexdigest() != digest.hex:
            raise DigestMismatchError(f"{name} is altered", where=self._where, hint="copy the bundle again")
        return data

    def enter(self, name: str, size: int) -> None:
        """Read the header of the next member; its content is then to be copied or skipped."""
        expected = tar_header(name, size=size)
        block = self._exactly(BLOCK)
        if block != expected[:BLOCK] or self._exactly(len(expected) - BLOCK) != expected[BLOCK:]:
            raise self._refusal(block, name, size)

    def copy(self, size: int, take: Callable[[BlobSource], object]) -> None:
        """Let ``take`` read as much as it wants of the member just entered, then skip the rest."""
        member = _Member(self._stream, self._where, size, self._stream.tell() if self._seekable else None)
        take(member)
        self._skip(member.left())
        self._padding(size)

    def skip(self, size: int) -> None:
        """Skip the content of the member just entered."""
        self._skip(size)
        self._padding(size)

    def end(self) -> None:
        """Check that the archive ends here, and the stream with it."""
        block = self._exactly(len(END))
        if block != END:
            raise self._refusal(block[:BLOCK], None, 0)
        if self._stream.read(1):
            raise UnsafeArchiveError("has data after its end", where=self._where, hint="copy the bundle again")

    def _content(self, size: int) -> bytes:
        data = self._exactly(size)
        self._padding(size)
        return data

    def _padding(self, size: int) -> None:
        if any(self._exactly(len(padding(size)))):
            raise UnsafeArchiveError("has bytes between its members", where=self._where, hint="copy the bundle again")

    def _skip(self, amount: int) -> None:
        if self._seekable:  # past the end, the next read tells
            self._stream.seek(amount, 1)
            return
        while amount:
            amount -= len(self._some(min(amount, LIMITS.chunk_bytes)))

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            parts.append(self._some(min(size, LIMITS.chunk_bytes)))
            size -= len(parts[-1])
        return b"".join(parts)

    def _some(self, amount: int) -> bytes:
        data = self._stream.read(amount)
        if not data:
            raise _cut_short(self._where)
        return data

    def _refusal(self, block: bytes, name: str | None, size: int) -> VerificationError:
        again = "copy the bundle again"
        if not any(block):
            return VerificationError(f"ends before {name}, which its list names", where=self._where, hint=again)
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except (tarfile.HeaderError, ValueError):
            return VerificationError("has a damaged tar header", where=self._where, hint=again)
        if not info.isreg():
            kind = _KINDS.get(info.type, "a special member")
            return UnsafeArchiveError(f"holds {kind}, {info.name!r}", where=self._where, hint="do not use this bundle")
        path = PurePosixPath(info.name)
        if path.is_absolute() or ".." in path.parts:
            return UnsafeArchiveError(
                f"holds {info.name!r}, a path that climbs out", where=self._where, hint="do not use this bundle"
            )
        if info.name == name:
            reason = "has other attributes" if info.size == size else f"has {info.size} bytes and not {size}"
            return SizeMismatchError(f"{name} {reason} than its list says", where=self._where, hint=again)
        if info.name in self._expected:
            return VerificationError(
                f"holds {info.name!r} out of order or twice, where {name or 'its end'} must be",
                where=self._where,
                hint=again,
            )
        return UnsafeArchiveError(
            f"holds {info.name!r}, which its list does not name", where=self._where, hint="do not use this bundle"
        )
