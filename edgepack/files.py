"""Files that are there whole or not at all, and locks between processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from edgepack.errors import disk_errors


def fsync_dir(path: Path) -> None:
    """Make the names in folder ``path`` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(temporary: Path, target: Path) -> None:
    """Rename the already fsynced ``temporary`` to ``target`` and make the rename durable."""
    temporary.replace(target)
    fsync_dir(target.parent)


def atomic_write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` with ``data`` so that a reader, or a power cut, sees the old file or the new one.

    Raises ``NoSpaceError`` when the disk is full; ``path`` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with disk_errors(path):
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, mode)  # the umask must not decide who reads a key
                file.write(data)
                file.flush()
                os.fsync(fd)
            publish(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def make_dirs(path: Path) -> None:
    """Create folder ``path`` and its parents, durably."""
    if path.is_dir():
        return
    make_dirs(path.parent)
    with disk_errors(path):
        path.mkdir(exist_ok=True)
        fsync_dir(path.parent)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold an advisory lock on ``path`` (created if absent) between processes and threads.

    The kernel drops it when the process dies, so a crash never leaves it behind.
    """
    with disk_errors(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
