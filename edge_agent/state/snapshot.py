"""Reading a SQLite database without writing anything: on a full disk, on a read-only one, while another changes it.

SQLite itself writes to read a database in WAL mode. So its bytes are read into memory, with what the write-ahead log
has committed laid over them (SQLite, "Database File Format", section 4, "The Write-Ahead Log").
"""

from __future__ import annotations

import sqlite3
import struct
import sys
import time
from array import array
from pathlib import Path

_HEADER, _FRAME = 32, 24
_MAGIC = (0x377F0682, 0x377F0683)  # checksums of little-endian words, of big-endian words
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.02
_MASK = 0xFFFFFFFF


def snapshot(path: Path) -> sqlite3.Connection:
    """The database at ``path`` as it was last committed, in memory; raises ``FileNotFoundError`` without one."""
    for _ in range(_ATTEMPTS):
        log, data = _bytes(_log_of(path)), path.read_bytes()
        if (log, data) == (_bytes(_log_of(path)), path.read_bytes()):
            break
        time.sleep(_PAUSE_SECONDS)  # another process is writing
    db = sqlite3.connect(":memory:", isolation_level=None)
    if data or log:
        db.deserialize(_without_log(committed(data, log)))
    return db


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _without_log(data: bytes) -> bytes:
    """The database marked as one without a write-ahead log (section 1.3.3)."""
    return data[:18] + b"\1\1" + data[20:] if data[18:20] == b"\2\2" else data


def committed(data: bytes, log: bytes) -> bytes:
    """The database ``data`` with the transactions that its write-ahead ``log`` has committed."""
    if len(log) < _HEADER:
        return data
    magic, _, page_bytes, _, *salts = struct.unpack(">6I", log[:24])
    sums = _sums(magic, log[:24], (0, 0))
    if magic not in _MAGIC or struct.pack(">2I", *sums) != log[24:_HEADER] or not 512 <= page_bytes <= 65536:
        return data
    pages: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    count = len(data) // page_bytes
    for at in range(_HEADER, len(log) - _FRAME - page_bytes + 1, _FRAME + page_bytes):
        number, size, *found = struct.unpack(">4I", log[at : at + 16])
        page = log[at + _FRAME : at + _FRAME + page_bytes]
        sums = _sums(magic, log[at : at + 8] + page, sums)
        if found != salts or struct.pack(">2I", *sums) != log[at + 16 : at + _FRAME] or number == 0:
            break  # of an earlier round, or not written to its end
        pending[number] = page
        if size:  # the last page of a transaction
            pages.update(pending)
            pending, count = {}, size
    out = bytearray(data[: count * page_bytes].ljust(count * page_bytes, b"\0"))
    for number, page in pages.items():
        if number <= count:
            out[(number - 1) * page_bytes : number * page_bytes] = page
    return bytes(out)


def _sums(magic: int, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    words = array("I", data)
    if (magic == _MAGIC[1]) != (sys.byteorder == "big"):
        words.byteswap()
    first, second = start
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & _MASK
        second = (second + words[at + 1] + first) & _MASK
    return first, second
