"""Starting a program under the supervisor, finding it again, and ending it with all that it started."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from edge_agent.runtimes.instances import write_mark
from edge_agent.runtimes.processes import (
    MARK,
    Process,
    ProcessIdentity,
    below,
    boot_id,
    living,
    resident_bytes,
    supervisors,
)
from edge_agent.runtimes.supervisor import CONTROL, checksum
from edge_agent.runtimes.supervisor.job import Answer, Given, Job, View, Way
from edgepack.errors import RuntimeFailedError
from edgepack.limits import LIMITS
from edgepack.state.desired import DesiredService

# Isolated, and without the packages of this Python: the supervisor needs the standard library and this project only.
_PROGRAM = "import sys; sys.path.insert(0, {!r}); from edge_agent.runtimes.supervisor.main import main; main()"
_ROOT = Path(__file__).parents[2]
_STEPS = {
    "calls": "its system calls cannot be filtered",
    "groups": "it cannot join its control group",
    "limits": "its limits cannot be set",
    "mounts": "it cannot be shown the folders that it needs",
    "user": "it cannot run as its image's user",
}
# The record of a process, and a copy of it.
_RECORDS = ("process.json", "process.copy.json")
_POLL_SECONDS = 0.02
# What a supervisor has left to do when its service has ended takes less: a file, and what a client has not fetched yet.
_SUPERVISOR_SECONDS = 10.0
# In place of a service that has ended and that nothing is known of.
_NOBODY = (-1, 0)


@dataclass(frozen=True)
class Supervised:
    """A program that was started here; ``exit_code`` is ``None`` while it runs, or when its end was not recorded.

    ``said`` is the last that it wrote, of one that has ended.
    """

    service: ProcessIdentity
    supervisor: ProcessIdentity
    exit_code: int | None
    out_of_memory: bool = False
    said: str = ""

    @property
    def running(self) -> bool:
        """Whether the program itself runs."""
        return self.exit_code is None and self.service.alive


class NoOwnNetworkError(RuntimeFailedError):
    """This process may not give a service a network of its own."""


def no_own_network(spec: DesiredService, error: NoOwnNetworkError) -> RuntimeFailedError:
    """The error for a service that asks for a network of its own, which ``error`` says that it cannot have."""
    return RuntimeFailedError(
        error.what, where=f"service {spec.name}",
        hint="leave network out of the desired state, or give the agent the rights of root",
    )  # fmt: skip


@dataclass(frozen=True)
class Surroundings:
    """What a service runs in, beside its files: its user, its limits, what it sees of the device. See ``Job``."""

    user: tuple[int, int] | None = None
    groups: Sequence[Path] = ()
    limits: Mapping[int, int] = field(default_factory=dict)
    oom: Path | None = None
    hide: Path | None = None
    views: Sequence[View] = ()
    aliases: Mapping[Path, Path] = field(default_factory=dict)
    way: Way | None = None
    given: Sequence[Given] = ()
    further: Sequence[int] = ()
    confined: bool = False
    calls: bytes = b""
    sealed: bool = False
    sockets: Sequence[int] = ()

    def beside(self, view: Surroundings) -> Surroundings:
        """These limits with everything else of another value."""
        return replace(view, groups=self.groups, limits=self.limits, oom=self.oom)


def launch(
    folder: Path,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    lock: int,
    within: Surroundings | None = None,
    log_bytes: int | None = None,
) -> None:
    """Start ``argv`` in a session of its own, with nothing but ``env``, its output in ``log``.

    At most ``log_bytes`` are kept of its output, in two parts.
    ``lock`` is the descriptor of a lock on ``folder``, held until the start is on record, even when this process dies.
    ``folder`` receives ``process.json`` and later ``exit.json``. Raises ``RuntimeFailedError`` when it cannot start,
    ``NoOwnNetworkError`` when that is because of a network of its own.
    """
    for name in (*_RECORDS, "exit.json", CONTROL):
        (folder / name).unlink(missing_ok=True)
    write_mark(folder, log)
    part = LIMITS.log_bytes if log_bytes is None else log_bytes // 2
    answer = _ask(_job(folder, argv, env, cwd, log, part, lock, within or Surroundings()))
    error = answer.get("error")
    if not error:
        return
    end(folder, timeout=0.0)
    match answer.get("step"):
        case "network":
            raise NoOwnNetworkError(f"it cannot have a network of its own ({error})")
        case "log":
            raise RuntimeFailedError(f"its log cannot be written ({error})", hint=f"look at {log}")
        case "calls" | "groups" | "limits" | "mounts" | "user" as step:
            raise RuntimeFailedError(
                f"{_STEPS[step]} ({error})", hint="give the agent the rights of root, or use another --runtime"
            )
    raise RuntimeFailedError(f"{argv[0]} cannot be started ({error})", hint="check the image's entrypoint")


def _job(
    folder: Path, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path, log_bytes: int, lock: int,
    within: Surroundings,
) -> Job:  # fmt: skip
    return {
        "folder": str(folder.resolve()),
        "argv": list(argv),
        "env": dict(env),
        "cwd": str(cwd),
        "log": str(log.resolve()),
        "log_bytes": log_bytes,
        "lock": lock,
        "boot": boot_id(),
        "user": within.user,
        "groups": [str(path) for path in within.groups],
        "limits": list(within.limits.items()),
        "oom": None if within.oom is None else str(within.oom),
        "hide": None if within.hide is None else str(within.hide),
        "views": list(within.views),
        "aliases": [(str(path), str(alias)) for path, alias in within.aliases.items()],
        "way": within.way,
        "given": list(within.given),
        "further": list(within.further),
        "confined": within.confined,
        "calls": within.calls.hex(),
        "sealed": within.sealed,
        "sockets": list(within.sockets),
    }


def _ask(job: Job) -> Answer:
    """Start a supervisor with ``job``; what it answers."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROGRAM.format(str(_ROOT)), MARK, job["folder"]],
        input=json.dumps(job).encode(),
        capture_output=True,
        env={},
        cwd="/",
        start_new_session=True,
        pass_fds=(job["lock"], *job["sockets"]),
        check=False,
    )
    try:
        answer: Answer = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        answer = {"error": said or "the supervisor ended"}
    return answer


def find(folder: Path) -> Supervised | None:
    """What was last started from ``folder``, by its record, or where that is lost by what runs."""
    identities = next((one for name in _RECORDS if (one := _identities(folder / name)) is not None), None)
    identities = identities or _running_from(folder)
    if identities is None:
        return None
    service, supervisor = identities
    try:
        ended = json.loads((folder / "exit.json").read_bytes())
        memory, said = bool(ended.get("out_of_memory")), str(ended.get("said", ""))
        return Supervised(service, supervisor, int(ended["code"]), memory, said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Supervised(service, supervisor, None)


def _identities(record: Path) -> tuple[ProcessIdentity, ProcessIdentity] | None:
    """The service and its supervisor; ``None`` when the record is not there or is damaged."""
    try:
        value = json.loads(record.read_bytes())
        sum_of_it = value.pop("crc32", None)  # which earlier versions did not write
        if sum_of_it is not None and sum_of_it != checksum(value):
            return None
        (pid, ticks), (above, above_ticks), boot = value["service"], value["supervisor"], str(value["boot"])
        return ProcessIdentity(int(pid), int(ticks), boot), ProcessIdentity(int(above), int(above_ticks), boot)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _running_from(folder: Path) -> tuple[ProcessIdentity, ProcessIdentity] | None:
    """The service and the supervisor that run from ``folder``, whatever is on record."""
    processes = living()
    found = sorted(supervisors(folder.resolve(), processes), key=lambda pid: processes[pid].start_ticks)
    if not found:
        return None
    supervisor, boot = processes[found[-1]], boot_id()
    # The service leads a session; what it has left behind came later, or leads none.
    services = [one for one in processes.values() if one.parent == supervisor.pid and one.session == one.pid]
    first = min(services, key=lambda one: one.start_ticks, default=None)
    service = _NOBODY if first is None else (first.pid, first.start_ticks)
    return ProcessIdentity(*service, boot), ProcessIdentity(supervisor.pid, supervisor.start_ticks, boot)


def ended(folder: Path, timeout: float = 2.0) -> Supervised | None:
    """A program that has ended; waits up to ``timeout`` seconds for the supervisor to record how."""
    deadline = time.monotonic() + timeout
    found = find(folder)
    while found is not None and found.exit_code is None and found.supervisor.alive and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        found = find(folder)
    return found


def used_bytes(folder: Path) -> int:
    """The memory that what was started from ``folder`` uses, shared pages of it counted once for each process."""
    return resident_bytes(one.pid for one in _members(folder, find(folder)).service)


def end(folder: Path, timeout: float) -> None:
    """Ask all that was started from ``folder`` to end, kill what is left after ``timeout`` seconds, and wait for it."""
    found = find(folder)
    deadline = time.monotonic() + timeout
    _signal(_members(folder, found).service, signal.SIGTERM)
    while _members(folder, found).service and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    while members := _members(folder, found).service:
        _signal(members, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    # A supervisor has one file left to write; it must not appear in a folder that is being removed.
    deadline = time.monotonic() + _SUPERVISOR_SECONDS
    while above := _members(folder, found).supervisors:
        if time.monotonic() > deadline:
            _signal(above, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _signal(processes: Collection[ProcessIdentity], number: int) -> None:
    for one in processes:
        one.signal(number)


class _Members(NamedTuple):
    supervisors: list[ProcessIdentity]
    service: list[ProcessIdentity]


def _members(folder: Path, found: Supervised | None) -> _Members:
    """The living supervisors of the service in ``folder``, and the living processes of the service."""
    processes = living()
    above = supervisors(folder.resolve(), processes)
    if found is not None and found.supervisor.alive and found.supervisor.pid in processes:
        above.add(found.supervisor.pid)
    members, boot = below(above, processes) | _session(found, processes), boot_id()

    def named(pids: Collection[int]) -> list[ProcessIdentity]:
        return [ProcessIdentity(pid, processes[pid].start_ticks, boot) for pid in pids]

    return _Members(named(above), named(members))


def _session(found: Supervised | None, processes: Mapping[int, Process]) -> set[int]:
    """The processes of the service's session, which a supervisor that was killed has not adopted.

    A session's number is not given to a new process while the session has members, so it is another's only when its
    leader is a process that started at another time, or in another boot.
    """
    if found is None or found.service.pid <= 0 or found.service.boot != boot_id():
        return set()
    leader = processes.get(found.service.pid)
    if leader is not None and leader.start_ticks != found.service.start_ticks:
        return set()
    return {one.pid for one in processes.values() if one.session == found.service.pid}
