"""How much of an unfinished blob is on the disk for certain: after a power cut a file may be longer than what it holds.

Beside the file stands how many bytes were written through, and during which boot. Within that boot the kernel has all
that was written, whoever was killed; after another one only those bytes count, and the rest is fetched again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgepack.host.boot import boot_id

# What is fetched again after a power cut, at most; each is a wait for the disk.
STEP_BYTES = 32 << 20
SUFFIX = ".synced"


class Checkpoint:
    """The checkpoint of the unfinished file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + SUFFIX)
        self._next = STEP_BYTES

    def certain(self, size: int) -> int:
        """How many of the file's ``size`` bytes can be gone on from.

        All of them without a checkpoint: then there are few, and the hash at the end tells.
        """
        certain = size
        with suppress(OSError, ValueError):
            boot, length = self._path.read_text("ascii").split()
            if boot != boot_id():
                certain = min(size, int(length))
        self._next = certain + STEP_BYTES
        return certain

    def reached(self, fd: int, size: int) -> None:
        """``size`` bytes are written to the open file ``fd``: now and then they are written through, and noted."""
        if size < self._next:
            return
        self._next = size + STEP_BYTES
        os.fsync(fd)
        # Overwritten in place: a torn one is none, and another length of this boot is not looked at.
        with suppress(OSError):
            note = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.pwrite(note, f"{boot_id()} {size:020}\n".encode(), 0)
                os.fsync(note)
            finally:
                os.close(note)

    def forget(self) -> None:
        """There is nothing unfinished any more, or it begins anew."""
        self._next = STEP_BYTES
        self._path.unlink(missing_ok=True)
