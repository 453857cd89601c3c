"""Starting a program under the supervisor, finding it again, and ending it with all that it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_agent.runtimes.supervisor import start_ticks
from edge_agent.runtimes.supervisor.job import Answer, Job, View, Way
from edgepack.errors import RuntimeFailedError
from edgepack.limits import LIMITS

# Isolated, and without the packages of this Python: the supervisor needs the standard library and this project only.
_PROGRAM = "import sys; sys.path.insert(0, {!r}); from edge_agent.runtimes.supervisor.main import main; main()"
_ROOT = Path(__file__).parents[2]
_STEPS = {
    "groups": "it cannot join its control group",
    "limits": "its limits cannot be set",
    "mounts": "it cannot be shown the folders that it needs",
    "user": "it cannot run as its image's user",
}
# The record of a process, and a copy of it.
_RECORDS = ("process.json", "process.copy.json")
_POLL_SECONDS = 0.02


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


@dataclass(frozen=True)
class Supervised:
    """A program that was started here; ``exit_code`` is ``None`` while it runs, or when its end was not recorded."""

    service: ProcessIdentity
    supervisor: ProcessIdentity
    exit_code: int | None
    out_of_memory: bool = False

    @property
    def running(self) -> bool:
        """Whether the program itself runs."""
        return self.exit_code is None and self.service.alive


def boot_id() -> str:
    """The kernel's id of this boot (proc(5), ``/proc/sys/kernel/random/boot_id``)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


class NoOwnNetworkError(RuntimeFailedError):
    """This process may not give a service a network of its own."""


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

    def beside(self, view: Surroundings) -> Surroundings:
        """These limits with the user and the view of another value."""
        return replace(self, user=view.user, views=view.views, aliases=view.aliases)


def launch(
    folder: Path,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    lock: int,
    within: Surroundings | None = None,
) -> None:
    """Start ``argv`` in a session of its own, with nothing but ``env``, its output in ``log``.

    ``lock`` is the descriptor of a lock on ``folder``, held until the start is on record, even when this process dies.
    ``folder`` receives ``process.json`` and later ``exit.json``. Raises ``RuntimeFailedError`` when it cannot start,
    ``NoOwnNetworkError`` when that is because of a network of its own.
    """
    for name in (*_RECORDS, "exit.json"):
        (folder / name).unlink(missing_ok=True)
    answer = _ask(_job(folder, argv, env, cwd, log, lock, within or Surroundings()))
    error = answer.get("error")
    if not error:
        return
    found = find(folder)
    if found is not None:
        end(found, timeout=0.0)
    match answer.get("step"):
        case "network":
            raise NoOwnNetworkError(f"it cannot have a network of its own ({error})")
        case "port":
            raise RuntimeFailedError(f"its port cannot be used ({error})", hint="give the service another port")
        case "groups" | "limits" | "mounts" | "user" as step:
            raise RuntimeFailedError(
                f"{_STEPS[step]} ({error})", hint="give the agent the rights of root, or use another --runtime"
            )
    raise RuntimeFailedError(f"{argv[0]} cannot be started ({error})", hint="check the image's entrypoint")


def _job(
    folder: Path, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path, lock: int, within: Surroundings
) -> Job:
    return {
        "folder": str(folder.resolve()),
        "argv": list(argv),
        "env": dict(env),
        "cwd": str(cwd),
        "log": str(log.resolve()),
        "log_bytes": LIMITS.log_bytes,
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
    }


def _ask(job: Job) -> Answer:
    """Start a supervisor with ``job``; what it answers."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROGRAM.format(str(_ROOT))],
        input=json.dumps(job).encode(),
        capture_output=True,
        env={},
        cwd="/",
        start_new_session=True,
        pass_fds=(job["lock"],),
        check=False,
    )
    try:
        answer: Answer = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        answer = {"error": said or "the supervisor ended"}
    return answer


def find(folder: Path) -> Supervised | None:
    """What was last started from ``folder``."""
    identities = next((one for name in _RECORDS if (one := _identities(folder / name)) is not None), None)
    if identities is None:
        return None
    service, supervisor = identities
    try:
        ended = json.loads((folder / "exit.json").read_bytes())
        return Supervised(service, supervisor, int(ended["code"]), bool(ended.get("out_of_memory")))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return Supervised(service, supervisor, None)


def _identities(record: Path) -> tuple[ProcessIdentity, ProcessIdentity] | None:
    """The service and its supervisor; ``None`` when the record is not there or is damaged."""
    try:
        value = json.loads(record.read_bytes())
        (pid, ticks), (above, above_ticks), boot = value["service"], value["supervisor"], str(value["boot"])
        return ProcessIdentity(int(pid), int(ticks), boot), ProcessIdentity(int(above), int(above_ticks), boot)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def ended(folder: Path, timeout: float = 2.0) -> Supervised | None:
    """A program that has ended; waits up to ``timeout`` seconds for the supervisor to record how."""
    deadline = time.monotonic() + timeout
    found = find(folder)
    while found is not None and found.exit_code is None and found.supervisor.alive and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        found = find(folder)
    return found


def end(found: Supervised, timeout: float) -> None:
    """Ask everything in the program's session to end, kill what is left after ``timeout`` seconds, and wait for it."""
    deadline = time.monotonic() + timeout
    _signal(found, signal.SIGTERM)
    while _members(found) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    while _members(found):
        _signal(found, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    # The supervisor has one file left to write; it must not appear in a folder that is being removed.
    while found.supervisor.alive:
        time.sleep(_POLL_SECONDS)


def _signal(found: Supervised, number: int) -> None:
    for pid in _members(found):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _members(found: Supervised) -> list[int]:
    """The living processes of the program's session.

    A session's number is not given to a new process while the session has members, so it is another's only when its
    leader is a process that started at another time, or in another boot.
    """
    if found.service.boot != boot_id():
        return []
    session = found.service.pid
    leader = start_ticks(session)
    if leader is not None and leader != found.service.start_ticks:
        return []
    members = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] not in (b"Z", b"X"):
                members.append(int(entry.name))
    return members
