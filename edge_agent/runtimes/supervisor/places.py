"""Places in a process's own view of the device where more of the device appears. Its files stay as they are."""

from __future__ import annotations

import os
import stat

from edge_agent.runtimes.supervisor import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing would stay in the supervisor's memory
    from collections.abc import Mapping, Sequence

    from edge_agent.runtimes.supervisor.job import Given

# What a service may write to where all else is read-only: as in a container, and what everybody may write to.
_WRITABLE = ("/tmp", "/var/tmp", "/dev/shm", "/proc")  # noqa: S108
_FLAGS = kernel.NO_SUID | kernel.NO_DEVICES
# Ours in the device's own memory: nothing of the device's is covered by a copy that would miss what comes later.
_MADE_FOR_ALL = "/run/"


def give(given: Sequence[Given], sources: Mapping[str, int], scratch: str) -> None:
    """Let each source, open in ``sources``, appear at its target; ``scratch`` is a folder that nothing needs any more.

    A target that the device does not have is made in a copy of the folder that it is in, whose entries are all shown.
    Raises ``OSError``.
    """
    for one in given:
        fd = sources[one["source"]]
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        target = one["target"]
        if not _is_there(target, is_folder):
            if target.startswith(_MADE_FOR_ALL):
                _make(target, is_folder)
            else:
                _widen(_nearest(target), scratch)
                _make(target, is_folder)
        kernel.mount(f"/proc/self/fd/{fd}", target, None, kernel.BIND)
        more = kernel.READ_ONLY if one["read_only"] else 0
        kernel.mount("none", target, None, _FLAGS | kernel.REMOUNT | kernel.BIND | more)


def seal(writable: Sequence[str]) -> None:
    """Make everything read-only but ``writable`` and where everybody may write; raises ``OSError``."""
    kept = [*(path for path in _WRITABLE if os.path.isdir(path)), *writable]  # noqa: PTH112
    for path in kept:
        kernel.mount(path, path, None, kernel.BIND | kernel.RECURSIVE)
    kernel.seal("/", read_only=True)
    for path in kept:
        kernel.seal(path, read_only=False)


def _is_there(path: str, is_folder: bool) -> bool:
    try:
        found = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return False
    return stat.S_ISDIR(found) == is_folder


def _nearest(path: str) -> str:
    """The deepest folder on the way to ``path`` that is there."""
    while True:
        path = path.rpartition("/")[0] or "/"
        if os.path.isdir(path):  # noqa: PTH112
            return path


def _make(path: str, is_folder: bool) -> None:
    if is_folder:
        os.makedirs(path, 0o755, exist_ok=True)  # noqa: PTH103
        return
    os.makedirs(path.rpartition("/")[0] or "/", 0o755, exist_ok=True)  # noqa: PTH103
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _widen(folder: str, scratch: str) -> None:
    """Put a folder in memory in the place of ``folder``, in which its entries appear and others can be made.

    The place of ``/`` is not to be had by mounting over it: this process gets another root.
    """
    place = scratch if folder == "/" else folder
    before = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    mode = stat.S_IMODE(os.fstat(before).st_mode)
    kernel.mount("tmpfs", place, "tmpfs", _FLAGS, f"mode={mode:o},size=1m")
    for name in os.listdir(before):  # noqa: PTH208
        source, entry = f"/proc/self/fd/{before}/{name}", f"{place}/{name}"
        kind = os.stat(name, dir_fd=before, follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            os.symlink(os.readlink(name, dir_fd=before), entry)
            continue
        if stat.S_ISDIR(kind):
            os.mkdir(entry, 0o755)  # noqa: PTH102
        else:
            os.close(os.open(entry, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        kernel.mount(source, entry, None, kernel.BIND | kernel.RECURSIVE)
    os.close(before)
    if folder == "/":
        os.chroot(place)
        os.chdir("/")
