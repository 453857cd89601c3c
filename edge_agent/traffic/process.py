"""The process of a router: HAProxy in the foreground, which outlives who starts it, as services do."""

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

from edge_agent.runtimes.processes import ProcessIdentity
from edge_agent.runtimes.supervisor import start_ticks
from edge_agent.traffic.control import DRAIN_SECONDS, Control
from edge_agent.traffic.router import BUCKETS, CERTIFICATE, CONFIGURATION, EMPTY, SOCKET, Router, configuration
from edgepack.errors import MissingPartError, RuntimeFailedError
from edgepack.host.boot import boot_id
from edgepack.host.files import atomic_write, make_dirs

PROGRAM = "haproxy"
_RECORD = "router.json"
_LOG = "haproxy.log"
# Debian's folder of programs for administrators is not on every path.
_PATH = os.pathsep.join(("/usr/sbin", "/sbin", "/usr/local/sbin"))
_START_SECONDS = 10.0
_END_SECONDS = 2.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Running:
    """A router that was started: its process, since when, and with which structure (``Router.structure``)."""

    pid: int
    start_ticks: int
    boot: str
    since: float
    structure: str

    @property
    def process(self) -> ProcessIdentity:
        """The process, which cannot be mistaken for another."""
        return ProcessIdentity(self.pid, self.start_ticks, self.boot)


class RouterProcess:
    """The router in ``folder``, which only the agent's user may enter; ``name`` is its endpoint's."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._name = name
        self.control = Control(folder)

    def running(self) -> Running | None:
        """The router that runs now; ``None`` when it has ended, or was never started."""
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

    def write(self, router: Router, buckets: str) -> None:
        """Write the files that the router is started with."""
        folder = self.folder
        make_dirs(folder, 0o700)
        make_dirs(folder / EMPTY, 0o755)
        atomic_write(folder / BUCKETS, buckets.encode(), 0o600)
        tls = router.endpoint.tls
        for file, name in (("", CERTIFICATE), (".key", f"{CERTIFICATE}.key")):
            link = folder / name
            link.unlink(missing_ok=True)
            if tls is not None:
                link.symlink_to(tls.key if file else tls.certificate)
        atomic_write(folder / CONFIGURATION, configuration(router).encode(), 0o600)

    def start(self, router: Router) -> None:
        """Start it with the files that were written; one that runs hands its sockets over, and ends when it is done.

        Raises ``RuntimeFailedError`` where it does not start: one that ran goes on then.
        """
        former = self.running()
        pid = self._unrecorded() if former is None else former.pid
        words = [find_program(), "-db", "-f", CONFIGURATION]
        words += [] if pid is None else ["-x", SOCKET, "-sf", str(pid)]
        with (self.folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )  # fmt: skip
        self._wait(process)
        ticks = start_ticks(process.pid)
        process.returncode = 0  # it is nobody's to wait for
        found = Running(process.pid, ticks or 0, boot_id(), int(time.time()), router.structure)
        atomic_write(self.folder / _RECORD, json.dumps(asdict(found)).encode(), 0o600)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if process.poll() is not None:
                said = alerts((self.folder / _LOG).read_text("utf-8", "replace"))
                raise RuntimeFailedError(f"its router does not start: {said}", where=f"endpoint {self._name}")
            if self._unrecorded() == process.pid:
                return
            time.sleep(_POLL_SECONDS)
        process.kill()
        process.wait()
        raise RuntimeFailedError(f"its router says nothing for {_START_SECONDS:g} s", where=f"endpoint {self._name}")

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
        raise RuntimeFailedError("its router does not end", where=f"endpoint {self._name}")


def find_program() -> str:
    """Where HAProxy is; raises ``MissingPartError``."""
    found = shutil.which(PROGRAM) or shutil.which(PROGRAM, path=_PATH)
    if found is None:
        raise MissingPartError(
            "is not installed, and endpoints need it", where=PROGRAM, hint="run: apt-get install haproxy"
        )
    return found


def check(folder: Path, name: str) -> None:
    """Let HAProxy read the files in ``folder``; raises ``RuntimeFailedError`` with what is wrong in them."""
    done = subprocess.run(
        [find_program(), "-c", "-f", CONFIGURATION], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="replace", check=False, timeout=60,
    )  # fmt: skip
    if done.returncode != 0:
        said = alerts(done.stderr + done.stdout)
        raise RuntimeFailedError(f"HAProxy does not take its configuration: {said}", where=f"endpoint {name}")


def alerts(text: str) -> str:
    """What HAProxy complains of, in one line."""
    lines = [line for line in text.splitlines() if line.startswith("[ALERT]")]
    found = [line.partition(" : ")[2].strip() for line in lines]
    return "; ".join(found[:2]) or " ".join(text.split())[-200:] or "it says nothing"
