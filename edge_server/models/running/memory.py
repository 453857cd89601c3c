"""Memory of this process: measures what a load adds, and returns freed memory to the system."""

from __future__ import annotations

import ctypes
import gc
import threading
from dataclasses import dataclass, field

# glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LARGE_BYTES = 8 * 1024 * 1024
# How much may stay at the end of a heap for the next run.
_SPARE_BYTES = 1024 * 1024


def own_bytes() -> int:
    """Bytes of this process in memory without those of mapped files, such as libraries."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0  # a kernel without it; the sizes of the files are used then


def settle_heap() -> None:
    """Make the C library return freed memory to the system; to be called before the process has other threads. Each
    thread would have a heap of its own and keep its end: tens of megabytes of unloaded models. And the size from which
    a block is returned at once would grow to that of the largest block ever freed, so that large bodies would keep
    their memory.
    """
    _mallopt(_M_ARENA_MAX, 1)
    _mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    _mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)


def give_back() -> None:
    """Return freed memory to the system: some milliseconds, without the interpreter's lock. Without this, the C library
    keeps most of the memory of a model's many small blocks.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        return
    # malloc_trim leaves the end of a thread's own heap, where a thread existed before ``settle_heap``; freeing a large
    # block there releases it.
    settle_heap()
    library.malloc.restype = ctypes.c_void_p
    library.free(ctypes.c_void_p(library.malloc(ctypes.c_size_t(_SPARE_BYTES))))
    library.malloc_trim(ctypes.c_size_t(0))


def _mallopt(option: int, value: int) -> None:
    """Set an option of glibc's; does nothing with another C library."""
    function = getattr(ctypes.CDLL(None), "mallopt", None)
    if function is not None:
        function(option, value)


@dataclass(eq=False)
class Measurement:
    """One load that is being measured: ``size`` is its file's, ``others`` the sizes of the files loaded meanwhile."""

    size: int
    before: int = field(default_factory=own_bytes)
    others: int = 0


class Meter:
    """Measures what loads cost in memory by the growth of the process; used by several threads.

    Loads that overlap share the growth by the sizes of their files: their pages cannot be told apart.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[Measurement] = []

    def begin(self, size: int) -> Measurement:
        """Begin to measure the load of a file of ``size`` bytes."""
        # Otherwise the model would reuse memory that others have freed, and seem to take none.
        give_back()
        with self._lock:
            measurement = Measurement(size)
            for other in self._running:
                other.others += size
                measurement.others += other.size
            self._running.append(measurement)
        return measurement

    def end(self, measurement: Measurement) -> int:
        """The load is over; return its bytes, at least those of its file."""
        # Memory that the load itself has freed is not the model's.
        gc.collect(0)
        give_back()
        with self._lock:
            self._running.remove(measurement)
            grown = own_bytes() - measurement.before
        share = measurement.size / max(1, measurement.size + measurement.others)
        return max(measurement.size, int(grown * share))
