"""A file that takes up a little disk space, to be freed when a full disk must not stop the way back."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgepack.host.files import fsync_dir

# What a rollback writes: a few pages of the database, the records of an instance, the first lines of its log.
RESERVE_BYTES = 4 << 20
# Less than this is left alone by the reserve, and is too little to go on with.
_LOW_BYTES = 2 * RESERVE_BYTES


class Reserve:
    """The reserve in the file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> None:
        """Take the space when it is not taken and there is enough of it; nothing is raised."""
        with suppress(OSError):
            if self._size() == RESERVE_BYTES or _free(self._path.parent) < _LOW_BYTES:
                return
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)

    def use(self) -> None:
        """Free the space when the disk is nearly full; nothing is raised."""
        with suppress(OSError):
            if _free(self._path.parent) < _LOW_BYTES:
                self._path.unlink(missing_ok=True)
                fsync_dir(self._path.parent)  # a journal may keep freed blocks until it is written

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
