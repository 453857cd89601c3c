"""Removing a folder with all that is in it, however deep: without recursion, and with two open files at once."""

from __future__ import annotations

import contextlib
import os
import stat
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove ``folder``; no link is followed. Raises ``OSError``, ``FileNotFoundError`` where it does not exist.

    With ``ignore_errors`` as much is removed as can be, and nothing is raised.
    """
    remover = _Remover(ignore_errors)
    with remover.attempt():
        remover.empty(_open(str(folder), None))
        folder.rmdir()


@dataclass
class _Level:
    """A folder that is being emptied: who it is, and the folders in it that are not empty yet."""

    identity: tuple[int, int]
    name: str
    folders: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Remover:
    ignore_errors: bool

    def attempt(self) -> AbstractContextManager[None]:
        """A block whose failure matters only when errors do."""
        return contextlib.suppress(OSError) if self.ignore_errors else contextlib.nullcontext()

    def empty(self, fd: int) -> None:
        """Remove everything in the open folder ``fd``, and close it."""
        try:
            levels = [self._level(fd, "")]
            while True:
                level = levels[-1]
                if level.folders:
                    name = level.folders.pop()
                    with self.attempt():
                        below = _open(name, fd)
                        try:
                            levels.append(self._level(below, name))
                        except OSError:
                            os.close(below)
                            raise
                        os.close(fd)
                        fd = below
                    continue
                levels.pop()
                if not levels:
                    return
                above = os.open("..", _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = above
                if _identity(fd) != levels[-1].identity:  # moved by somebody else meanwhile: what is here is not ours
                    raise OSError(f"{level.name!r} was moved while it was removed")
                with self.attempt():
                    os.rmdir(level.name, dir_fd=fd)
        finally:
            os.close(fd)

    def _level(self, fd: int, name: str) -> _Level:
        """Remove what is no folder and each empty folder in ``fd``; what is left to do in there."""
        level = _Level(_identity(fd), name)
        for entry in os.listdir(fd):
            with self.attempt():
                if not stat.S_ISDIR(os.stat(entry, dir_fd=fd, follow_symlinks=False).st_mode):
                    os.unlink(entry, dir_fd=fd)
                    continue
                try:
                    os.rmdir(entry, dir_fd=fd)
                except OSError:  # not empty, most likely; else the next try fails for the same reason
                    level.folders.append(entry)
        return level


def _identity(fd: int) -> tuple[int, int]:
    info = os.fstat(fd)
    return info.st_dev, info.st_ino


def _open(name: str, above: int | None) -> int:
    """The folder ``name``, opened; its owner may then change it."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=above)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=above)
        fd = os.open(name, _FOLDER, dir_fd=above)
    with contextlib.suppress(OSError):  # another user's, or read-only: removing says what is wrong
        if os.fstat(fd).st_mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
    return fd
