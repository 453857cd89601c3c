"""A process of HAProxy, which outlives who starts it, as services do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_agent.runtimes.haproxy.control import SOCKET, Control
from edge_agent.runtimes.processes import ProcessIdentity
from edge_agent.runtimes.supervisor import start_ticks
from edgepack.errors import MissingPartError, RuntimeFailedError
from edgepack.host.boot import boot_id
from edgepack.host.files import atomic_write

PROGRAM = "haproxy"
# The files of a process, in its folder, which is its working directory: the path of a socket must be short.
CONFIGURATION = "haproxy.cfg"
EMPTY = "empty"
_RECORD = "router.json"
_LOG = "haproxy.log"
_PID = "haproxy.pid"
# Debian's folder of programs for administrators is not on every path.
_PATH = os.pathsep.join(("/usr/sbin", "/sbin", "/usr/local/sbin"))
_START_SECONDS = 10.0
# How long what has begun may take before it is ended.
DRAIN_SECONDS = 30.0
_END_SECONDS = 2.0
_POLL_SECONDS = 0.02
# Who nobody is, on Debian and everywhere else: what HAProxy becomes that root has started.
_NOBODY = 65534


@dataclass(frozen=True)
class Running:
    """A process that was started: since when, and with what that cannot be changed while it runs (``structure``)."""

    pid: int
    start_ticks: int
    boot: str
    since: float
    structure: str

    @property
    def process(self) -> ProcessIdentity:
        """The process, which cannot be mistaken for another."""
        return ProcessIdentity(self.pid, self.start_ticks, self.boot)


class HaproxyProcess:
    """The process in ``folder``, which only the agent's user may enter; ``where`` is its place in errors."""

    def __init__(self, folder: Path, where: str) -> None:
        self.folder = folder
        self.where = where
        self.control = Control(folder)

    def running(self) -> Running | None:
        """The process that runs now; ``None`` when it has ended, or was never started."""
        try:
            found = Running(**json.loads((self.folder / _RECORD).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return found if found.process.alive else None

    def _unrecorded(self) -> int | None:
        """The process at the socket: who started it may have been killed before that was on record."""
        with suppress(RuntimeFailedError):
            return int(self.control.info().get("Pid") or 0) or None
        return None

    def start(self, structure: str) -> None:
        """Start it with the files in its folder; one that runs hands its sockets over, and ends when it is done.

        Raises ``RuntimeFailedError`` where it does not start: one that ran goes on then.
        """
        former = self.running()
        known = self._unrecorded() if former is None else former.pid
        # It leaves this process by itself, once it has opened its ports.
        words = [find_program(), "-D", "-f", CONFIGURATION, "-p", _PID]
        words += [] if known is None else ["-x", SOCKET, "-sf", str(known)]
        (self.folder / _PID).unlink(missing_ok=True)
        with (self.folder / _LOG).open("wb") as log:
            try:
                done = subprocess.run(
                    words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
                    timeout=_START_SECONDS, env={"PATH": os.environ.get("PATH", os.defpath)},
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                what = f"its router says nothing for {_START_SECONDS:g} s"
                raise RuntimeFailedError(what, where=self.where) from error
        pid = self._pid()
        if done.returncode != 0 or pid is None or not self._answers(pid):
            said = alerts((self.folder / _LOG).read_text("utf-8", "replace"))
            raise RuntimeFailedError(f"its router does not start: {said}", where=self.where)
        found = Running(pid, start_ticks(pid) or 0, boot_id(), int(time.time()), structure)
        atomic_write(self.folder / _RECORD, json.dumps(asdict(found)).encode(), 0o600)

    def _pid(self) -> int | None:
        with suppress(OSError, ValueError):
            return int((self.folder / _PID).read_text("ascii"))
        return None

    def _answers(self, pid: int) -> bool:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and start_ticks(pid) is not None:
            if self._unrecorded() == pid:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def stop(self) -> None:
        """Take no more requests, answer those that came, and end; at once after ``DRAIN_SECONDS``."""
        found = self.running()
        pid = self._unrecorded() if found is None else found.pid
        if pid is None:
            return
        began = start_ticks(pid)
        for number, seconds in (
            (signal.SIGUSR1, DRAIN_SECONDS), (signal.SIGTERM, _END_SECONDS), (signal.SIGKILL, _END_SECONDS),
        ):  # fmt: skip
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if start_ticks(pid) != began:
                    return
                time.sleep(_POLL_SECONDS)
        raise RuntimeFailedError("its router does not end", where=self.where)

    def kill(self) -> None:
        """End it at once: it does not answer."""
        found = self.running()
        if found is not None:
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
            end = time.monotonic() + _END_SECONDS
            while found.process.alive and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Let HAProxy read the files in the folder; raises ``RuntimeFailedError`` with what is wrong in them."""
        done = subprocess.run(
            [find_program(), "-c", "-f", CONFIGURATION], cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", check=False, timeout=60,
        )  # fmt: skip
        if done.returncode != 0:
            said = alerts(done.stderr + done.stdout)
            raise RuntimeFailedError(f"HAProxy does not take its configuration: {said}", where=self.where)


def program() -> str | None:
    """Where HAProxy is."""
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path=_PATH)


def find_program() -> str:
    """Where HAProxy is; raises ``MissingPartError``."""
    found = program()
    if found is None:
        raise MissingPartError(
            "is not installed, and routers are its processes",
            where=PROGRAM,
            hint="run: apt-get install haproxy",
        )
    return found


def user() -> int | None:
    """Who HAProxy is to become; ``None`` to stay who starts it."""
    return _NOBODY if os.geteuid() == 0 else None


def alerts(text: str) -> str:
    """What HAProxy complains of, in one line."""
    lines = [line for line in text.splitlines() if line.startswith("[ALERT]")]
    found = [line.partition(" : ")[2].strip() for line in lines]
    return "; ".join(found[:2]) or " ".join(text.split())[-200:] or "it says nothing"
