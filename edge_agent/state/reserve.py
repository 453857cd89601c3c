"""Files that take up a little disk space, to be freed when a full disk must not stop the way back.

A disk is full of bytes, or of files: many file systems have room for a fixed number of them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.host.files import fsync_dir, make_dirs
from edgepack.host.removal import remove_tree

# What a rollback writes: a few pages of the database, the records of an instance, the first lines of its log.
RESERVE_BYTES = 4 << 20
# Less than this is left alone by the reserve, and is too little to go on with.
_LOW_BYTES = 2 * RESERVE_BYTES
# What a rollback makes: the database's own files, the records of an instance, temporary files beside them.
RESERVE_FILES = 32
_LOW_FILES = 2 * RESERVE_FILES


class Reserve:
    """The reserve in the file ``path``, and in a folder beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = path.with_name(f"{path.name}.files")

    def fill(self) -> None:
        """Take the space when it is not taken and there is enough of it; nothing is raised."""
        with suppress(OSError, EdgepackError):
            self._fill_files()
        with suppress(OSError):
            if self._size() == RESERVE_BYTES or _free(self._path.parent) < _LOW_BYTES:
                return
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)

    def _fill_files(self) -> None:
        held = sum(1 for _ in self._files.iterdir()) if self._files.is_dir() else 0
        if held >= RESERVE_FILES or not self._path.parent.is_dir() or files_left(self._path.parent) < _LOW_FILES:
            return
        make_dirs(self._files, 0o700)
        for number in range(RESERVE_FILES):
            (self._files / str(number)).touch(mode=0o600)

    def use(self) -> None:
        """Free the space when the disk is nearly full; nothing is raised."""
        with suppress(OSError):
            if files_left(self._path.parent) < _LOW_FILES and self._files.is_dir():
                remove_tree(self._files)
        with suppress(OSError):
            if _free(self._path.parent) < _LOW_BYTES:
                self._path.unlink(missing_ok=True)
                fsync_dir(self._path.parent)  # a journal may keep freed blocks until it is written

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


def files_left(folder: Path) -> int:
    """How many files can still be made where ``folder`` is; many where the file system does not count them."""
    disk = os.statvfs(folder)
    return disk.f_favail if disk.f_files else 1 << 30


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
