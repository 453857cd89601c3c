"""Numbers in memory that several processes share: each writes its own region, any of them reads all.

The memory is an anonymous mapping made before the processes fork. A region is a directory that only grows: an entry is
a key and its cells, and the length of the directory is written last, so that a reader sees whole entries only. The
replacement of a process that died continues its region.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Iterator

from edge_server.config.sizes import SIZES

# Address space, which takes memory only where it is written. Enough for some thousand series.
REGION_BYTES = SIZES.metrics
# What is written when a region is full, and never read.
_SPARE_BYTES = 512

_HEADER = struct.Struct("=Q")  # of the memory: the process that made it; of a region: bytes that are used
_ENTRY = struct.Struct("=II")  # bytes of the key, number of cells
_CELL = 8


def share(processes: int) -> mmap.mmap:
    """Memory for that many processes; to be called in the process that starts them."""
    memory = mmap.mmap(-1, _CELL + processes * REGION_BYTES)
    _HEADER.pack_into(memory, 0, os.getpid())
    return memory


class Cells:
    """The region of process number ``process`` (from 0) for writing, and all regions for reading.

    ``values`` are the cells: ``values[open("key", 2)] += 1`` counts. No other thread can come between the two steps of
    ``+=`` on a memory view: the interpreter changes threads at calls and jumps only.
    """

    def __init__(self, memory: mmap.mmap, process: int) -> None:
        self.values = memoryview(memory).cast("d")
        self.maker: int = _HEADER.unpack_from(memory)[0]
        self.processes = (len(memory) - _CELL) // REGION_BYTES
        self.process = process
        self._memory = memory
        self._start = _CELL + process * REGION_BYTES
        self._lock = threading.Lock()
        self._known = {key: first for key, first, _ in self._entries(process)}

    def open(self, key: str, count: int) -> int:
        """Index of the first of ``count`` cells named ``key``, made with zeros when there are none.

        Beyond the region's end it is the index of a scratch cell that is not read: metrics never stop the server.
        """
        with self._lock:
            first = self._known.get(key)
            if first is None:
                first = self._known[key] = self._append(key.encode(), count)
            return first

    def read(self) -> Iterator[tuple[int, str, list[float]]]:
        """Every process' number, key and cells."""
        for process in range(self.processes):
            for key, first, count in self._entries(process):
                yield process, key, list(self.values[first : first + count])

    def _append(self, key: bytes, count: int) -> int:
        used: int = _HEADER.unpack_from(self._memory, self._start)[0]
        entry = self._start + _CELL + used
        cells = entry + _ENTRY.size + _padded(len(key))
        end = cells + count * _CELL
        limit = self._start + REGION_BYTES - _SPARE_BYTES
        if end > limit:
            return limit // _CELL
        _ENTRY.pack_into(self._memory, entry, len(key), count)
        self._memory[entry + _ENTRY.size : entry + _ENTRY.size + len(key)] = key
        _HEADER.pack_into(self._memory, self._start, end - self._start - _CELL)
        return cells // _CELL

    def _entries(self, process: int) -> Iterator[tuple[str, int, int]]:
        start = _CELL + process * REGION_BYTES
        entry = start + _CELL
        end = entry + _HEADER.unpack_from(self._memory, start)[0]
        while entry < end:
            length, count = _ENTRY.unpack_from(self._memory, entry)
            key = entry + _ENTRY.size
            cells = key + _padded(length)
            yield self._memory[key : key + length].decode(), cells // _CELL, count
            entry = cells + count * _CELL


def _padded(length: int) -> int:
    return -(-length // _CELL) * _CELL
