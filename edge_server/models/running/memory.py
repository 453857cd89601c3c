"""Memory of this process: what a load adds to it, and giving back what was freed."""

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
# So much may stay at the end of a heap for the next run.
_SPARE_BYTES = 1024 * 1024


def own_bytes() -> int:
    """Bytes of this process in memory without those of mapped files, such as libraries."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0  # a kernel that does not tell; the sizes of the files stand for it then


def settle_heap() -> None:
    """Make the C library give back what is freed; to be called before the process has other threads.

    Each thread would have a heap of its own, whose end is kept for it: tens of megabytes of models that are gone. And
    the size from which a piece goes back to the system at once would be raised to that of the largest piece that was
    ever freed, so that large bodies would stay among what is in use.
    """
    _mallopt(_M_ARENA_MAX, 1)
    _mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    _mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)


def give_back() -> None:
    """Give memory that was freed back to the system: some milliseconds, without the interpreter's lock.

    The C library keeps most of what a model's many small pieces took until it is told.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        return
    # malloc_trim leaves the end of a heap that is a thread's own, where there was a thread before they were settled; a
    # large piece that is freed there takes it along.
    settle_heap()
    library.malloc.restype = ctypes.c_void_p
    library.free(ctypes.c_void_p(library.malloc(ctypes.c_size_t(_SPARE_BYTES))))
    library.malloc_trim(ctypes.c_size_t(0))


def _mallopt(option: int, value: int) -> None:
    """Set an option of glibc's; nothing happens where the C library is another one."""
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

    Loads that overlap share the growth by the sizes of their files: nothing tells their pages apart.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[Measurement] = []

    def begin(self, size: int) -> Measurement:
        """A load of a file of ``size`` bytes begins."""
        # The model would else move into what others left behind, and seem to take nothing.
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
        # What the load itself left behind is not the model's.
        gc.collect(0)
        give_back()
        with self._lock:
            self._running.remove(measurement)
            grown = own_bytes() - measurement.before
        share = measurement.size / max(1, measurement.size + measurement.others)
        return max(measurement.size, int(grown * share))
