"""Compiled modules without what only debuggers read: names of symbols, lines of sources, and the table of sections.

The system's loader goes by the program headers, and reads nothing behind the last segment that they name.
Specification: System V ABI, "Object Files" and "Program Loading".
"""

from __future__ import annotations

import struct

_MAGIC = b"\x7fELF"
_CLASS_64, _LITTLE_ENDIAN, _SHARED_OBJECT = 2, 1, 3
# e_type, then e_phoff and e_shoff, then e_phentsize, e_phnum, e_shentsize, e_shnum and e_shstrndx.
_TYPE = struct.Struct("<H")
_TYPE_AT = 16
_OFFSETS = struct.Struct("<QQ")
_OFFSETS_AT = 32
_COUNTS = struct.Struct("<HHHHH")
_COUNTS_AT = 54
_HEADER_BYTES = 64
# p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz.
_SEGMENT = struct.Struct("<IIQQQQ")
# e_phnum where the true number stands elsewhere.
_TOO_MANY = 0xFFFF


def without_symbols(data: bytes) -> bytes:
    """The ELF shared object ``data`` (64 bits, little endian) up to the end of its last segment.

    Returned as it is: what is no such file, what is cut short or contradicts itself, and what would not be shorter.
    """
    if len(data) < _HEADER_BYTES or data[:6] != _MAGIC + bytes([_CLASS_64, _LITTLE_ENDIAN]):
        return data
    if _TYPE.unpack_from(data, _TYPE_AT)[0] != _SHARED_OBJECT:
        return data
    segments_at, _ = _OFFSETS.unpack_from(data, _OFFSETS_AT)
    size, count, *_ = _COUNTS.unpack_from(data, _COUNTS_AT)
    end = segments_at + size * count
    if size < _SEGMENT.size or not 0 < count < _TOO_MANY or not _HEADER_BYTES <= segments_at < end <= len(data):
        return data
    for place in range(segments_at, end, size):
        _, _, offset, _, _, length = _SEGMENT.unpack_from(data, place)
        end = max(end, offset + length)
    if end >= len(data):
        return data
    kept = bytearray(data[:end])
    _OFFSETS.pack_into(kept, _OFFSETS_AT, segments_at, 0)
    _COUNTS.pack_into(kept, _COUNTS_AT, size, count, 0, 0, 0)
    return bytes(kept)
