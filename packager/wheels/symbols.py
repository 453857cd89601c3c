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
# e_phnum where the true number is kept elsewhere.
_TOO_MANY = 0xFFFF
# sh_type, sh_flags, sh_addr, sh_offset, sh_size, after the section's name.
_SECTION = struct.Struct("<4xIQQQQ")
_NO_BYTES = 8
# Names of sections that other programs look for in the file: Qt in its plugins, scanners in what Rust's cargo made.
_LOOKED_FOR = (b".qtmetadata", b".dep-v0")


def without_symbols(data: bytes) -> bytes:
    """The ELF shared object ``data`` (64 bits, little endian) up to the end of its last segment.

    Returned unchanged: another kind of file, one that is cut short or inconsistent, one with data behind its sections
    or with a section that other programs look for, and one that would not become shorter.
    """
    if len(data) < _HEADER_BYTES or data[:6] != _MAGIC + bytes([_CLASS_64, _LITTLE_ENDIAN]):
        return data
    if _TYPE.unpack_from(data, _TYPE_AT)[0] != _SHARED_OBJECT:
        return data
    end = _end_of_segments(data)
    if end is None or not _is_only_sections(data, end):
        return data
    segments_at, _ = _OFFSETS.unpack_from(data, _OFFSETS_AT)
    size, count, *_ = _COUNTS.unpack_from(data, _COUNTS_AT)
    header = bytearray(data[:_HEADER_BYTES])
    _OFFSETS.pack_into(header, _OFFSETS_AT, segments_at, 0)
    _COUNTS.pack_into(header, _COUNTS_AT, size, count, 0, 0, 0)
    return b"".join((header, memoryview(data)[_HEADER_BYTES:end]))


def _end_of_segments(data: bytes) -> int | None:
    """Where the last segment ends; None where the program headers are wrong."""
    segments_at, _ = _OFFSETS.unpack_from(data, _OFFSETS_AT)
    size, count, *_ = _COUNTS.unpack_from(data, _COUNTS_AT)
    end = segments_at + size * count
    if size < _SEGMENT.size or not 0 < count < _TOO_MANY or not _HEADER_BYTES <= segments_at < end <= len(data):
        return None
    for place in range(segments_at, end, size):
        _, _, offset, _, _, length = _SEGMENT.unpack_from(data, place)
        end = max(end, offset + length)
    return int(end)


def _is_only_sections(data: bytes, start: int) -> bool:
    """Whether what comes from ``start`` on is sections, none of which others look for, and their table."""
    _, sections_at = _OFFSETS.unpack_from(data, _OFFSETS_AT)
    _, _, size, count, _ = _COUNTS.unpack_from(data, _COUNTS_AT)
    end = sections_at + size * count
    if start >= len(data) or size < _SECTION.size or not count or not start <= sections_at < end <= len(data):
        return False
    for place in range(sections_at, end, size):
        kind, _, _, offset, length = _SECTION.unpack_from(data, place)
        if kind != _NO_BYTES:
            end = max(end, offset + length)
    return end == len(data) and not any(data.find(name, start) >= 0 for name in _LOOKED_FOR)
