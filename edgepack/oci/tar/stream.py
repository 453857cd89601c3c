"""Reading a tar's headers as a stream, strictly: what two readers could understand differently is refused.

The standard library's reader takes a damaged header in the middle for the end of the archive; here each block is read
and judged. Formats: USTAR, PAX, GNU long names and sparse files (POSIX.1-2017, pax, "ustar Interchange Format"; GNU
tar manual, "Basic Tar Format"). Device nodes and whatever else is neither file, directory nor link are read too, so
that a base image that holds them can be inspected; unpacking refuses them with ``checked_kind``.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from edgepack.errors import UnsafeArchiveError
from edgepack.limits import LIMITS
from edgepack.oci.tar import sparse
from edgepack.oci.tar.header import BLOCK, MemberKind
from edgepack.oci.tar.sparse import Sparse

_KINDS: dict[bytes, MemberKind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}
# What ``Member.special`` may say.
DEVICE, FIFO, SPARSE = "a device node", "a FIFO", "a sparse file"
_SPECIAL = {
    tarfile.CHRTYPE: DEVICE,
    tarfile.BLKTYPE: DEVICE,
    tarfile.FIFOTYPE: FIFO,
    tarfile.GNUTYPE_SPARSE: SPARSE,
}
# What has no content, whatever a header says of its size: here some readers skip bytes and others do not.
_HEADER_ONLY = frozenset(
    {tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}
)
# Container engines ignore global PAX headers and other readers follow them, so these must not be in one.
_NEVER_GLOBAL = frozenset({"path", "linkpath", "size", "uid", "gid"})
_GNU_MAGIC = b"ustar  \0"


@dataclass(frozen=True)
class Member:
    """One entry as its header announces it. ``name`` and ``linkname`` are as written; ``mtime`` in whole seconds.

    ``special`` says what it is when it is neither file, directory nor link; ``size`` is that of the stored bytes, and
    ``sparse`` says where those of a sparse file belong.
    """

    name: str
    kind: MemberKind | Literal["special"]
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    linkname: str
    special: str = ""
    sparse: Sparse | None = None


class TarStream:
    """The members of the plain tar that ``stream`` yields, in order.

    Iterate; after each member read its bytes with ``chunks`` (what is left unread is skipped). Iterating to the end
    also reads what follows the archive's end, which must be zeros; ``ended`` is true when the end was marked, as nearly
    every writer does. Raises ``UnsafeArchiveError``. With ``as_engines`` what readers could understand differently is
    read as container engines do: they ignore PAX headers for all entries, and the size of what has no content.
    """

    def __init__(self, stream: BinaryIO, *, as_engines: bool = False) -> None:
        self.ended = False
        self._stream = stream
        self._as_engines = as_engines
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        extended: dict[str, str] = {}
        while (block := self._block()) is not None:
            info = self._header(block)
            if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
                found = _pax(self._extension(info), info.name)
                if info.type == tarfile.XHDTYPE:
                    extended |= found
                elif not self._as_engines and (
                    ambiguous := [key for key in found if key in _NEVER_GLOBAL or key.startswith(sparse.PREFIX)]
                ):
                    raise UnsafeArchiveError(
                        f"a PAX header with {', '.join(sorted(ambiguous))} for all entries that follow", where=info.name
                    )
            elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                extended[key] = _text(self._extension(info).partition(b"\0")[0])
            else:
                if info.type in _HEADER_ONLY and self._as_engines:
                    info.size = 0
                    extended.pop("size", None)
                old = self._sparse_map(block, info.name) if info.type == tarfile.GNUTYPE_SPARSE else None
                member = _member(info, extended, old)
                extended = {}
                self._left, self._padding = member.size, -member.size % BLOCK
                yield member
                for _ in self.chunks():
                    pass
        if extended:
            raise UnsafeArchiveError("a header for an entry that does not come", where=extended.get("path"))

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the present member."""
        while self._left:
            chunk = self._stream.read(min(self._left, LIMITS.chunk_bytes))
            if not chunk:
                raise UnsafeArchiveError("the archive ends inside an entry")
            self._left -= len(chunk)
            yield chunk
        if self._padding:
            self._exactly(self._padding)
            self._padding = 0

    def _block(self) -> bytes | None:
        """The next header block; ``None`` at the end of the archive."""
        block = self._exactly(BLOCK, at_end=True)
        if block.strip(b"\0"):
            return block
        self.ended = bool(block)
        while chunk := self._stream.read(LIMITS.chunk_bytes):
            if chunk.strip(b"\0"):
                raise UnsafeArchiveError("bytes after the end of the archive")
        return None

    def _exactly(self, amount: int, *, at_end: bool = False) -> bytes:
        data = bytearray()
        while len(data) < amount and (chunk := self._stream.read(amount - len(data))):
            data += chunk
        if len(data) != amount and not (at_end and not data):
            raise UnsafeArchiveError("the archive is cut short")
        return bytes(data)

    def _sparse_map(self, header: bytes, name: str) -> Sparse:
        blocks = []
        more = sparse.more_in_header(header)
        while more:
            blocks.append(self._exactly(BLOCK))
            more = sparse.more_in_block(blocks[-1])
            if len(blocks) * BLOCK > LIMITS.tar_extension_bytes:
                raise UnsafeArchiveError("is a sparse file with too many parts", where=name)
        return sparse.old_form(header, blocks, name)

    @staticmethod
    def _header(block: bytes) -> tarfile.TarInfo:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            raise UnsafeArchiveError(f"a damaged header ({error})") from error
        if block[257:265] == _GNU_MAGIC:  # GNU keeps times, not a prefix of the name, in the last part of the header
            name = _text(block[:100].partition(b"\0")[0])
            # frombuf has stripped a folder's trailing slash; the kind tells it too.
            info.name = name.rstrip("/") if info.isdir() else name
        return info

    def _extension(self, info: tarfile.TarInfo) -> bytes:
        if not 0 <= info.size <= LIMITS.tar_extension_bytes:
            raise UnsafeArchiveError(f"a header of {info.size} bytes", where=info.name)
        return self._exactly(info.size + -info.size % BLOCK)[: info.size]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _pax(data: bytes, name: str) -> dict[str, str]:
    """The records ``length key=value newline`` of a PAX header."""
    found: list[tuple[str, str]] = []
    while data:
        length_text, _, _ = data.partition(b" ")
        length = int(length_text) if length_text.isdigit() and len(length_text) < 9 else 0
        record, data = data[:length], data[length:]
        key, equals, value = record[len(length_text) + 1 : -1].partition(b"=")
        if len(record) != length or record[-1:] != b"\n" or not equals or not key:
            raise UnsafeArchiveError("a damaged PAX header", where=name)
        found.append((_text(key), _text(value)))
    return sparse.joined(found)


def _member(info: tarfile.TarInfo, extended: dict[str, str], old: Sparse | None) -> Member:
    name = extended.get(f"{sparse.PREFIX}name", extended.get("path", info.name))
    special = ""
    holes = old or sparse.pax_form(extended, name)
    if holes is not None:
        special = SPARSE
    elif info.type not in _KINDS:
        special = _SPECIAL.get(info.type, f"an entry of the unknown type {info.type!r}")
    size = _number(extended, "size", info.size, name)
    if size < 0 or (size and info.type in _HEADER_ONLY):
        raise UnsafeArchiveError(f"only a regular file may have a size, and this has {size} bytes", where=name)
    linkname = extended.get("linkpath", info.linkname)
    if "\0" in name or "\0" in linkname:
        raise UnsafeArchiveError("a name with a zero byte", where=name)
    return Member(
        name=name,
        kind="special" if special else _KINDS[info.type],
        size=size,
        mode=info.mode & 0o7777,
        uid=_number(extended, "uid", info.uid, name),
        gid=_number(extended, "gid", info.gid, name),
        mtime=_number(extended, "mtime", int(info.mtime), name),
        linkname=linkname,
        special=special,
        sparse=holes,
    )


def checked_kind(member: Member) -> MemberKind:
    """The kind of a member that may be unpacked; raises ``UnsafeArchiveError`` for any other."""
    if member.kind == "special":
        raise UnsafeArchiveError(f"is {member.special}, which is not unpacked", where=member.name)
    return member.kind


def _number(extended: dict[str, str], key: str, otherwise: int, name: str) -> int:
    text = extended.get(key)
    if text is None:
        return otherwise
    whole = text.partition(".")[0] if key == "mtime" else text
    digits = whole.removeprefix("-") if key == "mtime" else whole
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise UnsafeArchiveError(f"a PAX header with {key}={text!r}", where=name)
    return int(whole)
