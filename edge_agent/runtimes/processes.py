"""Which processes of this machine belong to a service: its supervisor, and everything that it has started.

A supervisor adopts what its service leaves behind (``PR_SET_CHILD_SUBREAPER``), so all of it is below the supervisor
however often it forks, and it has the service's folder in its command line, so that it is found without any record.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.runtimes.supervisor import start_ticks
from edgepack.host.boot import boot_id as boot_id

# The last words but one of a supervisor's command line; the service's folder is the last.
MARK = "edgepack-service"
# Of the flags of a process: it is a thread of the kernel (linux/sched.h).
_PF_KTHREAD = 0x00200000
_READ_BYTES = 8192
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that cannot be mistaken for another: its number, when it started, and in which boot."""

    pid: int
    start_ticks: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return self.boot == boot_id() and start_ticks(self.pid) == self.start_ticks

    def signal(self, number: int) -> bool:
        """Send it a signal, and never to another process that has its number now; whether it was there.

        Raises ``PermissionError`` where that is not allowed. A kernel before 5.3 leaves a moment in which the number
        may be given away.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except (ProcessLookupError, OverflowError):
            return False
        except (OSError, AttributeError):  # no such descriptors, or none left
            fd = -1
        try:
            if not self.alive:  # asked with the descriptor open: it is of this process, and of no later one
                return False
            if fd < 0:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            if fd >= 0:
                os.close(fd)
        return True


class ProcessWatch:
    """Notices the end of a process, by its descriptor (pidfd_open(2)); see ``Watch``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def of(cls, process: ProcessIdentity) -> ProcessWatch | None:
        """One of ``process``; ``None`` when it has ended, or the kernel has no such descriptors."""
        try:
            fd = os.pidfd_open(process.pid)
        except OSError:
            return None
        if process.alive:  # asked afterwards: the descriptor is of this process, and of no later one with its number
            return cls(fd)
        os.close(fd)
        return None

    def fileno(self) -> int:
        """See ``Watch``."""
        return self._fd

    def ended(self) -> bool:
        """See ``Watch``."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """See ``Watch``."""
        os.close(self._fd)


@dataclass(frozen=True)
class Process:
    """A living process: its parent, its session, and when it started."""

    pid: int
    parent: int
    session: int
    start_ticks: int


def living() -> dict[int, Process]:
    """All processes of this machine that this one may see, without those that have ended and the kernel's own."""
    found = {}
    for pid in _pids():
        try:
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in (b"Z", b"X") and not int(fields[6]) & _PF_KTHREAD:
            found[pid] = Process(pid, int(fields[1]), int(fields[3]), int(fields[19]))
    return found


def below(above: Collection[int], processes: Mapping[int, Process]) -> set[int]:
    """What the processes ``above`` have started, and what that has started, and so on."""
    children: dict[int, list[int]] = {}
    for one in processes.values():
        children.setdefault(one.parent, []).append(one.pid)
    found: set[int] = set()
    waiting = list(above)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def resident_bytes(pids: Iterable[int]) -> int:
    """The memory that these processes use, shared pages of it counted once for each."""
    total = 0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE
    return total


def supervisors(folder: Path, processes: Mapping[int, Process]) -> set[int]:
    """Those of ``processes`` that are supervisors of the service in ``folder``, by their command lines.

    Others could have a command line like it, so only those of this process's own user count.
    """
    mark = [MARK.encode(), os.fsencode(folder), b""]
    marked = {pid for pid in processes if _words(pid)[-3:] == mark and _is_own(pid)}
    # A child has its parent's command line until it becomes another program.
    return marked - below(marked, processes)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())


def _read(path: str) -> bytes:
    """A file of proc(5), of which hundreds are read whenever a service ends, so with no more calls than it takes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while more := os.read(fd, _READ_BYTES):
            found += more
        return found
    finally:
        os.close(fd)


def _words(pid: int) -> list[bytes]:
    try:
        return _read(f"/proc/{pid}/cmdline").split(b"\0")
    except OSError:
        return []


def _is_own(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == os.geteuid()
    except OSError:
        return False
