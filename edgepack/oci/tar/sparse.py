"""Files with holes in a tar: where their stored bytes belong (GNU tar manual, "Storing Sparse Files").

There are four forms: GNU's old one in the header and in blocks behind it, and PAX 0.0, 0.1 and 1.0; the last has its
map at the start of the stored bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from edgepack.errors import UnsafeArchiveError
from edgepack.limits import LIMITS
from edgepack.oci.tar.header import BLOCK

PREFIX = "GNU.sparse."
_REPEATED = (f"{PREFIX}offset", f"{PREFIX}numbytes")
_MAP = f"{PREFIX}map"
# The old form: its entries begin here, 4 in the header and 21 in each block behind it; then whether more follow.
_ENTRIES, _ENTRIES_IN_BLOCK, _ENTRY = 386, 0, 12
_MORE_IN_HEADER, _MORE_IN_BLOCK, _REAL_SIZE = 482, 504, 483


@dataclass(frozen=True)
class Sparse:
    """A file of ``size`` bytes; ``parts`` are offset and length of what is stored, ``None`` where it begins with it."""

    size: int
    parts: tuple[tuple[int, int], ...] | None


def more_in_header(block: bytes) -> bool:
    """Whether blocks with more of the old form's map follow the header ``block``."""
    return bool(block[_MORE_IN_HEADER])


def more_in_block(block: bytes) -> bool:
    """Whether another block follows this one of the old form's map."""
    return bool(block[_MORE_IN_BLOCK])


def old_form(header: bytes, blocks: Iterable[bytes], name: str) -> Sparse:
    """What the header of an entry in the old form, and the ``blocks`` behind it, say; raises ``UnsafeArchiveError``."""
    numbers = list(_fields(header, _ENTRIES, 4, name))
    for block in blocks:
        numbers += _fields(block, _ENTRIES_IN_BLOCK, 21, name)
    size = _number_of(header[_REAL_SIZE : _REAL_SIZE + _ENTRY], name)
    return _checked(size, _pairs(numbers, name), name)


def joined(records: Iterable[tuple[str, str]]) -> dict[str, str]:
    """PAX records by key; what version 0.0 repeats becomes the list of version 0.1."""
    found: dict[str, str] = {}
    parts: list[str] = []
    for key, value in records:
        if key in _REPEATED:
            parts.append(value)
        else:
            found[key] = value
    if parts:
        found[_MAP] = ",".join(parts)
    return found


def pax_form(records: Mapping[str, str], name: str) -> Sparse | None:
    """What PAX records say; ``None`` when they are not of a sparse file. Raises ``UnsafeArchiveError``."""
    own = {key.removeprefix(PREFIX): value for key, value in records.items() if key.startswith(PREFIX)}
    if not own:
        return None
    if (own.get("major"), own.get("minor")) == ("1", "0"):
        return Sparse(_decimal(own.get("realsize", ""), name), None)
    numbers = [_decimal(text, name) for text in own.get("map", "").split(",") if text]
    return _checked(_decimal(own.get("size", ""), name), _pairs(numbers, name), name)


def write_sparse(sparse: Sparse, stored: Iterator[bytes], file: BinaryIO, name: str) -> None:
    """Write the bytes ``stored`` to their places in the empty ``file``; raises ``UnsafeArchiveError``."""
    data = b""
    parts = sparse.parts
    if parts is None:
        parts, data = _leading_map(sparse.size, stored, name)
    for offset, length in parts:
        file.seek(offset)
        while length:
            data = data or next(stored, b"")
            if not data:
                raise UnsafeArchiveError("is a sparse file with less content than it says", where=name)
            file.write(data[:length])
            length, data = length - len(data[:length]), data[length:]
    if data or any(stored):
        raise UnsafeArchiveError("is a sparse file with more content than it says", where=name)
    file.truncate(sparse.size)


def _leading_map(size: int, stored: Iterator[bytes], name: str) -> tuple[tuple[tuple[int, int], ...], bytes]:
    """The map of version 1.0, and the first bytes behind its last block."""
    data = next(stored, b"")
    numbers: list[int] = []
    at, wanted = 0, 1
    while len(numbers) < wanted:
        end = data.find(b"\n", at)
        if end < 0:
            more = next(stored, b"")
            if not more or len(data) > LIMITS.tar_extension_bytes:
                raise UnsafeArchiveError("is a sparse file with a damaged map", where=name)
            data += more
            continue
        numbers.append(_decimal(data[at:end].decode("ascii", "replace"), name))
        at = end + 1
        if len(numbers) == 1:
            wanted = 1 + 2 * numbers[0]
    at += -at % BLOCK
    while len(data) < at and (more := next(stored, b"")):
        data += more
    found = _checked(size, _pairs(numbers[1:], name), name)
    return found.parts or (), data[at:]


def _checked(size: int, parts: tuple[tuple[int, int], ...], name: str) -> Sparse:
    end = 0
    for offset, length in parts:
        if offset < end or offset + length > size:
            raise UnsafeArchiveError("is a sparse file with a damaged map", where=name)
        end = offset + length
    return Sparse(size, parts)


def _pairs(numbers: list[int], name: str) -> tuple[tuple[int, int], ...]:
    if len(numbers) % 2:
        raise UnsafeArchiveError("is a sparse file with a damaged map", where=name)
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _fields(block: bytes, start: int, count: int, name: str) -> Iterator[int]:
    for at in range(start, start + 2 * count * _ENTRY, 2 * _ENTRY):
        offset, length = block[at : at + _ENTRY], block[at + _ENTRY : at + 2 * _ENTRY]
        if not length.strip(b"\0 "):
            return
        yield _number_of(offset, name)
        yield _number_of(length, name)


def _number_of(field: bytes, name: str) -> int:
    """A number in a header: octal digits, or, where the first bit is set, big-endian bytes."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.strip(b"\0 ") or b"0"
    if not all(digit in b"01234567" for digit in text):
        raise UnsafeArchiveError("is a sparse file with a damaged map", where=name)
    return int(text, 8)


def _decimal(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UnsafeArchiveError("is a sparse file with a damaged map", where=name)
    return int(text)
