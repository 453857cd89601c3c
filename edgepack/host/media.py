"""What a medium can take: free space, and the largest file of its file system, asked before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edgepack.errors import NoSpaceError, UsageError
from edgepack.limits import LIMITS
from edgepack.text import human

# Microsoft, "FAT32 File System Specification": the size of a file is a 32-bit number. exFAT has no such limit.
FAT_FILE_BYTES = (1 << 32) - 1
# What is given to parts where a medium decides: below the limit, in round numbers.
FAT_PART_BYTES = 3_900_000_000
_FAT = frozenset({"vfat", "msdos", "umsdos"})
_MOUNTS = Path("/proc/self/mountinfo")
# Folders and tables of a file system, and what is rounded up to its blocks.
_MARGIN = LIMITS.import_margin_bytes


def file_system(folder: Path) -> str | None:
    """The kind of file system that ``folder`` is on, such as ``vfat``; ``None`` where the system does not say."""
    try:
        device = folder.stat().st_dev
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:  # proc_pid_mountinfo(5): the third field, and the first after the dash
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            return after.split()[0]
    return None


def largest_file(folder: Path) -> int | None:
    """How large a file can be on the file system of ``folder``; ``None`` when that is no matter."""
    return FAT_FILE_BYTES if file_system(folder) in _FAT else None


def free_bytes(folder: Path) -> int:
    """How much this user may still write on the file system of ``folder``."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def check_room(folder: Path, sizes: Iterable[int], *, hint: str) -> None:
    """Raise unless files of these ``sizes`` can be written to ``folder``.

    ``UsageError`` for one that is larger than a file can be there, with ``hint``; ``NoSpaceError`` for all together.
    """
    sizes = list(sizes)
    most = largest_file(folder)
    if most is not None and max(sizes, default=0) > most:
        raise UsageError(
            f"is a FAT file system, on which no file has 4 GiB, and one of {human(max(sizes))} is to be written",
            where=folder, hint=hint,
        )  # fmt: skip
    needed, free = sum(sizes) + _MARGIN, free_bytes(folder)
    if sizes and needed > free:
        raise NoSpaceError(
            f"{human(needed)} are needed and {human(free)} are free", where=folder,
            hint="free some space there and run the same command again",
        )  # fmt: skip
