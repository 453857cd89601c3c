"""Files and folders that appear whole or not at all, what killed processes left of them, and locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import shlex
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from edgepack.errors import NotFoundError, UsageError, disk_errors
from edgepack.host.destinations import destination
from edgepack.host.removal import remove_tree

# What file systems answer that write folders through at once (NFS, CIFS, FUSE), or lock files only (NFS).
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)
_ABANDONED_SECONDS = 24 * 3600.0
BY_UMASK = None
"""The mode of what is written for the user, at a path that the user gave: as every program has it."""


def fsync_dir(path: Path) -> None:
    """Make the names in folder ``path`` survive a power cut, as far as its file system can."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)


def sync_file_system(path: Path) -> None:
    """Make everything written below ``path`` survive a power cut, with one call for the whole file system."""
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "syncfs"):  # not Linux
            os.sync()
        elif libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            if code in _NOT_FOR_FOLDERS:
                os.sync()
                return
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


def publish(temporary: Path, target: Path) -> None:
    """Rename the already fsynced ``temporary`` to ``target`` and make the rename durable."""
    temporary.replace(target)
    fsync_dir(target.parent)


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = 0o644) -> Iterator[BinaryIO]:
    """A new file that replaces ``path``, durably, when the block ends without an error.

    It has the ``mode`` whatever the umask, or that of a new file with ``BY_UMASK``.
    Until then, and when the block fails or the process is killed, ``path`` is unchanged; leftovers of a killed writer
    are removed by the next call. Where ``path`` is a link, it stays and the file that it leads to is replaced. What is
    not a regular file, such as ``/dev/stdout`` or a FIFO, is written through as the bytes come; then the yielded file
    cannot seek. Raises ``NoSpaceError`` when the disk is full, ``NotFoundError`` when the folder does not exist,
    ``UsageError`` where nothing can be written.
    """
    with disk_errors(path):
        target = destination(path)
        if target.through:
            with os.fdopen(target.open_through(), "wb") as stream:
                yield stream
            return
        path = target.path
        if path.is_dir():
            raise UsageError("is a folder", where=path, hint="give the name of a file")
        _sweep_beside(path)
        try:
            temporary, fd = _locked_file(path, mode)
        except FileNotFoundError:
            hint = "create it, or give another path"
            raise NotFoundError("there is no such folder", where=path.parent, hint=hint) from None
        file = os.fdopen(fd, "wb")
        try:
            if mode is not BY_UMASK:
                os.fchmod(fd, mode)  # the umask must not decide who reads a key
            yield file
            file.flush()
            os.fsync(fd)
            publish(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            # What a full disk left in the buffer is lost with the file; the error has been raised already.
            with contextlib.suppress(OSError):
                file.close()


@contextlib.contextmanager
def temporary_beside(target: Path, mode: int = 0o700) -> Iterator[Path]:
    """A new folder beside ``target``, to be filled and renamed to it; it is removed at the end unless it was renamed.

    Leftovers of killed processes are removed first.
    """
    _sweep_beside(target)
    temporary, fd = _locked_folder(target, mode)
    try:
        yield temporary
    finally:
        remove_tree(temporary, ignore_errors=True)
        os.close(fd)


def discard(folder: Path) -> None:
    """Remove ``folder`` and leftovers of killed processes beside it; absent is fine.

    It is renamed first: a half removed folder never has its own name.
    """
    _sweep_beside(folder)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        with contextlib.suppress(OSError):  # keeps other processes from sweeping it meanwhile, which would do no harm
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = _temporary(folder)
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            folder.rename(doomed)
            fsync_dir(folder.parent)
            remove_tree(doomed)
    finally:
        os.close(fd)


def sweep(
    folder: Path, pattern: str, *, keep: Collection[str] = (), idle_seconds: float = 0, own: bool = False
) -> None:
    """Remove the files and folders in ``folder`` that killed processes left under names like ``pattern``.

    A living process holds a lock on its own, which then stays; so do the names in ``keep``, what was changed in the
    last ``idle_seconds`` and, with ``own``, what another user owns. Nothing is raised: what cannot be removed now is
    left for the next time.
    """
    for left in folder.glob(pattern):
        if left.name in keep:
            continue
        with contextlib.suppress(OSError):  # in use, gone, or not ours
            # NFS locks only what is open for writing, and no folder.
            access = os.O_RDWR if left.is_file() else os.O_RDONLY
            fd = os.open(left, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                info = os.fstat(fd)
                if own and info.st_uid != os.geteuid():
                    continue
                if idle_seconds and time.time() - info.st_mtime < idle_seconds:
                    continue
                _lock_or_age(fd, info)
                if stat.S_ISDIR(info.st_mode):
                    remove_tree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
            finally:
                os.close(fd)


def _lock_or_age(fd: int, info: os.stat_result) -> None:
    """Lock the open file or folder; where a folder cannot be locked, one that is old counts as left behind."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        if not stat.S_ISDIR(info.st_mode) or time.time() - info.st_mtime < _ABANDONED_SECONDS:
            raise


def _sweep_beside(path: Path) -> None:
    sweep(path.parent, f".{glob.escape(path.name)}.{'[0-9a-f]' * 12}.tmp")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def _locked_file(path: Path, mode: int | None) -> tuple[Path, int]:
    while True:
        temporary = _temporary(path)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is BY_UMASK else mode)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # else another writer swept it before it was locked
            return temporary, fd
        os.close(fd)


def _locked_folder(path: Path, mode: int) -> tuple[Path, int]:
    while True:
        temporary = _temporary(path)
        temporary.mkdir(mode=0o700)
        try:
            fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # another process swept it before it was locked
            continue
        # Not every file system locks a folder (NFS); then no other process can sweep it either.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        if temporary.exists():
            os.fchmod(fd, mode)  # the umask must not decide who may enter
            return temporary, fd
        os.close(fd)


def atomic_write(path: Path, data: bytes, mode: int | None = 0o644) -> None:
    """Replace ``path`` with ``data`` so that a reader, or a power cut, sees the old file or the new one.

    The ``mode`` is that of ``replacing``. Raises ``NoSpaceError`` when the disk is full; ``path`` is then as it was.
    """
    with replacing(path, mode) as file:
        file.write(data)


def make_dirs(path: Path, mode: int | None = None) -> None:
    """Create folder ``path`` and its parents, durably.

    With a ``mode`` the folder has it afterwards, whatever the umask, also when it existed with another one; parents
    that are created may then be entered and read by everybody, and written by their owner. Without one the umask
    decides. Raises ``UsageError`` where a folder cannot be made, or is another user's and has another mode.
    """
    _make_dirs(path, mode, None if mode is None else 0o755)
    if mode is not None:
        set_mode(path, mode)


def _make_dirs(path: Path, mode: int | None, above: int | None) -> None:
    if path.is_dir():
        return
    _make_dirs(path.parent, above, above)
    if path.exists() and not path.is_dir():  # another process may have made it meanwhile
        raise UsageError("is a file where a folder is needed", where=path, hint="give another folder")
    with disk_errors(path):
        try:
            path.mkdir(0o777 if mode is None else mode)
        except FileExistsError:
            return
        if mode is not None:
            path.chmod(mode)  # what the umask took away
        fsync_dir(path.parent)


def mode_of_new_folder(within: Path) -> int:
    """The mode that the umask leaves a new folder, found by one in the folder ``within``."""
    probe = _temporary(within / "new")
    probe.mkdir()  # which tells the umask without changing it for other threads
    mode = stat.S_IMODE(probe.stat().st_mode) & 0o777
    probe.rmdir()
    return mode


def set_mode(path: Path, mode: int) -> None:
    """Give the file or folder ``path`` its mode; nothing is written when it has it.

    Raises ``UsageError`` with the command for its owner when it is another user's.
    """
    with disk_errors(path):
        found = stat.S_IMODE(path.stat().st_mode)
        if found == mode:
            return
        try:
            path.chmod(mode)
        except PermissionError:
            raise UsageError(
                f"has the mode {found:04o}, not {mode:04o}, and belongs to another user", where=path,
                hint=f"as its owner or root, run: chmod {mode:04o} {shlex.quote(str(path))}",
            ) from None  # fmt: skip


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold an advisory lock on ``path`` (created if absent) between processes and threads.

    The kernel drops it when the process dies, so a crash never leaves it behind. Its file is its owner's alone, for
    whoever can open it can hold the lock for ever.
    """
    with disk_errors(path):
        fd = open_lock(path)
    try:
        with disk_errors(path):
            fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def open_lock(path: Path) -> int:
    """A descriptor of the lock's file ``path``, made if absent; its mode is 0600, or becomes so where it is ours."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held = os.fstat(fd)
    if stat.S_IMODE(held.st_mode) != 0o600 and held.st_uid == os.geteuid():
        os.fchmod(fd, 0o600)
    return fd
