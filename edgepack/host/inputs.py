"""Files to be read where something else may be: opening a FIFO waits for ever, and opening a device does things."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from edgepack.errors import UnsafeArchiveError

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one; raises ``UnsafeArchiveError`` for anything else, without opening it."""
    _check(path, path.stat())
    # Another may have taken its place in between; that is not waited for either.
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")  # noqa: SIM115
    try:
        _check(path, os.fstat(file.fileno()))
    except UnsafeArchiveError:
        file.close()
        raise
    return file


def kind_of(found: os.stat_result) -> str:
    """What it is when it is not a regular file, with its article."""
    return _KINDS.get(stat.S_IFMT(found.st_mode), "of an unknown kind")


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeArchiveError(f"is {kind_of(found)} and not a regular file", where=path)
