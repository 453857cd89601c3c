"""A zip archive whose bytes depend on its content alone: PKWARE's APPNOTE, without ZIP64.

The module ``zipfile`` compresses by the zlib of its Python, whose bytes differ between builds; libdeflate's do not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

_DEFLATED, _VERSION = 8, 20
# The first date that the format has, 1980-01-01; names in UTF-8.
_DATE, _UTF8 = 0x21, 0x800
_UNIX, _FILE_MODE = 3 << 8, 0o100644 << 16
_LEVEL = 6


def write_zip(files: Mapping[str, bytes]) -> bytes:
    """The archive of ``files``, by name."""
    from deflate import deflate_compress  # libdeflate

    body, directory = bytearray(), bytearray()
    for name, data in sorted(files.items()):
        packed = bytes(deflate_compress(data, _LEVEL))
        path = name.encode()
        shared = struct.pack(
            "<HHHHHIIIHH", _VERSION, _UTF8, _DEFLATED, 0, _DATE, zlib.crc32(data), len(packed), len(data), len(path), 0
        )
        directory += b"PK\x01\x02" + struct.pack("<H", _UNIX | _VERSION) + shared
        directory += struct.pack("<HHHII", 0, 0, 0, _FILE_MODE, len(body)) + path
        body += b"PK\x03\x04" + shared + path + packed
    count = len(files)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end)
