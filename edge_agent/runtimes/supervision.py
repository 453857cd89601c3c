"""Starting a program under the supervisor, finding it again, and ending it with all that it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.runtimes.supervisor import start_ticks
from edgepack.errors import RuntimeFailedError

_SCRIPT = Path(__file__).with_name("supervisor.py")
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

    @property
    def running(self) -> bool:
        """Whether the program itself runs."""
        return self.exit_code is None and self.service.alive


def boot_id() -> str:
    """The kernel's id of this boot (proc(5), ``/proc/sys/kernel/random/boot_id``)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def launch(
    folder: Path,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    lock: int,
    user: tuple[int, int] | None = None,
    hide: Path | None = None,
) -> None:
    """Start ``argv`` in a session of its own, with nothing but ``env``, as ``user`` (uid, gid) when one is given.

    What is mounted at ``hide`` is hidden from it, which needs root.
    ``lock`` is the descriptor of a lock on ``folder``, held until the start is on record, even when this process dies.
    ``folder`` receives ``process.json`` and later ``exit.json``. Raises ``RuntimeFailedError`` when it cannot start.
    """
    for name in ("process.json", "exit.json"):
        (folder / name).unlink(missing_ok=True)
    job = {
        "folder": str(folder.resolve()),
        "argv": list(argv),
        "env": dict(env),
        "cwd": str(cwd),
        "log": str(log.resolve()),
        "lock": lock,
        "user": user,
        "hide": None if hide is None else str(hide),
        "boot": boot_id(),
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_SCRIPT)],
        input=json.dumps(job).encode(),
        capture_output=True,
        env={},
        cwd="/",
        start_new_session=True,
        pass_fds=(lock,),
        check=False,
    )
    try:
        error = json.loads(done.stdout).get("error")
    except ValueError:
        error = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or "the supervisor ended"
    if error:
        found = find(folder)
        if found is not None:
            end(found, timeout=0.0)
        raise RuntimeFailedError(f"{argv[0]} cannot be started ({error})", hint="check the image's entrypoint")


def find(folder: Path) -> Supervised | None:
    """What was last started from ``folder``."""
    try:
        value = json.loads((folder / "process.json").read_bytes())
        service, supervisor = (
            ProcessIdentity(int(pid), int(ticks), str(value["boot"]))
            for pid, ticks in (value["service"], value["supervisor"])
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    try:
        code = json.loads((folder / "exit.json").read_bytes())["code"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        code = None
    return Supervised(service, supervisor, code)


def exit_code(folder: Path, timeout: float = 2.0) -> int | None:
    """The exit code of a program that has ended; waits up to ``timeout`` seconds for the supervisor to record it."""
    deadline = time.monotonic() + timeout
    found = find(folder)
    while found is not None and found.exit_code is None and found.supervisor.alive and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        found = find(folder)
    return None if found is None else found.exit_code


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
