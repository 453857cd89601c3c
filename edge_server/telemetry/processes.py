"""What the service's processes use, read from /proc on request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Usage:
    """Sums over processes: CPU in seconds (with children that have ended), resident memory in bytes.

    ``started`` is when the first of them started, in seconds since 1970.
    """

    processes: int = 0
    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    open_files: int = 0
    threads: int = 0
    started: float = 0.0


def usage(root: int) -> Usage:
    """The usage of process ``root`` and its descendants; those that end meanwhile, or may not be read, are left out."""
    total = Usage()
    for process in _family(root):
        try:
            # The name of the program, in brackets, may hold anything.
            fields = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
            open_files = sum(1 for _ in os.scandir(f"/proc/{process}/fd"))
        except OSError:
            continue
        # Numbered from 1 in proc(5), and fields[0] is the third.
        user, system, ended_user, ended_system = map(int, fields[11:15])
        total.cpu_seconds += (user + system + ended_user + ended_system) * _TICK
        total.threads += int(fields[17])
        total.resident_bytes += int(fields[21]) * _PAGE
        total.open_files += open_files
        if not total.processes:
            total.started = _boot_time() + int(fields[19]) * _TICK
        total.processes += 1
    return total


def _family(root: int) -> Iterator[int]:
    waiting = [root]
    while waiting:
        process = waiting.pop()
        yield process
        try:
            for thread in os.scandir(f"/proc/{process}/task"):
                waiting += map(int, _read(f"{thread.path}/children").split())
        except OSError:
            continue


def _boot_time() -> int:
    return next((int(line[6:]) for line in _read("/proc/stat").splitlines() if line.startswith("btime ")), 0)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
