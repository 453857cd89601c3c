"""What the agent asks of a supervisor, as JSON on its standard input. Only types: nothing of it is loaded to run."""

from __future__ import annotations

from typing import TypedDict


class View(TypedDict):
    """A folder that the service's user may not enter, and the only paths below it that the service is shown."""

    cover: str
    show: list[str]


class Way(TypedDict):
    """The service's one way to the device's network: what comes to the job's sockets goes to the port ``inside``.

    What comes to the service's address is led to it once it listens, or with ``told`` once the agent says so.
    """

    inside: int
    told: bool


class Given(TypedDict):
    """A file or folder of the device, and where the service sees it."""

    source: str
    target: str
    read_only: bool


class Job(TypedDict):
    """A service to start.

    ``lock`` is the inherited descriptor of the service's lock. ``user`` is a uid and gid, ``further`` are groups beside
    that, ``groups`` the files ``cgroup.procs`` to join, ``limits`` pairs of a resource and its limit (getrlimit(2)),
    ``oom`` the file that counts kills for lack of memory, ``hide`` a mount to take away, ``aliases`` pairs of a folder
    and where it appears. ``confined``: it gains no privileges; ``calls`` is a program that filters its system calls, in
    hexadecimal digits. ``sealed``: the device's files are read-only to it. ``sockets`` are the inherited descriptors of
    the listening socket of the service's address, and of one on which it is asked in private; without a ``way`` the
    service inherits them.
    """

    folder: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    log: str
    log_bytes: int
    lock: int
    boot: str
    user: tuple[int, int] | None
    groups: list[str]
    limits: list[tuple[int, int]]
    oom: str | None
    hide: str | None
    views: list[View]
    aliases: list[tuple[str, str]]
    way: Way | None
    given: list[Given]
    further: list[int]
    confined: bool
    calls: str
    sealed: bool
    sockets: list[int]


class Answer(TypedDict, total=False):
    """What the supervisor answers once the service runs (nothing) or could not be started.

    ``step`` names what failed: ``network`` when the service cannot have one of its own, ``log``, ``groups``,
    ``mounts``, ``limits``, ``calls``, ``user``; empty for the program itself.
    """

    error: str
    step: str
