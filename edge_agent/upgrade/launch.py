#!/usr/bin/env python3
"""``STATE_DIR/agent/edge-agent``: starts the version of the agent that is current, and tries one that is to become it.

It is written once, with the first agent on a device, and no new version replaces it: whatever is wrong with a new
version, this is what gives the old one back. A new version is named by ``trial.json``. It runs as a child, which has
to say that it is ready and alive, by systemd's protocol, for as long as the trial says; then ``current`` names it.
Else it is ended, ``refused.json`` says why, and the version before runs on. Services are not touched by any of it.
It imports only the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TRIES, _TELL_SECONDS = 3, 5.0
# Options that any verb may come after, and that have a value.
_WITH_VALUE = ("--state-dir", "--runtime", "--wait")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(folder: Path, arguments: list[str]) -> None:
    """Start the agent in ``folder``; does not return."""
    trial = _read(folder / "trial.json")
    if trial is not None and _verb(arguments) == "run":
        _try(folder, trial, arguments)
    _start(folder, os.readlink(folder / "current"), arguments)  # noqa: PTH115


def _verb(arguments: list[str]) -> str:
    """The verb of a command line, whose options may come before it."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            return word
        if word in _WITH_VALUE:
            next(words, None)
    return ""


def _start(folder: Path, version: str, arguments: list[str]) -> None:
    os.environ.pop("EDGEPACK_TRIAL", None)
    os.execv(sys.executable, _command(folder, version, arguments))  # noqa: S606


def _command(folder: Path, version: str, arguments: list[str]) -> list[str]:
    return [sys.executable, str(folder / version / "edge-agent.pyz"), *arguments]


def _try(folder: Path, trial: dict[str, Any], arguments: list[str]) -> None:
    """Run the version of ``trial`` until it is proven or has failed, and record which.

    Where the disk has no space for that, it is not tried: who wants it proposes it again, and is told why that fails.
    """
    version = str(trial["version"])
    try:
        # A version that is current already was proven, and a power cut came before its trial was cleared away.
        if os.readlink(folder / "current") != version:  # noqa: PTH115
            reason = _counted(folder, trial, arguments)
            if reason is None:
                return  # ended by a signal that was for us: the next start goes on with the trial
            if reason:
                sys.stderr.write(f"edge-agent: version {version[:12]} is given up: {reason}\n")
                _write(folder / "refused.json", {**trial, "reason": reason})
            else:
                _point(folder / "current", version)
    except OSError as error:
        why = error.strerror or error
        sys.stderr.write(f"edge-agent: version {version[:12]} is left out: {why}; ask for it again\n")
    (folder / "trial.json").unlink(missing_ok=True)


def _counted(folder: Path, trial: dict[str, Any], arguments: list[str]) -> str | None:
    """As ``_watched``, for a trial that was not cut short too often."""
    starts = int(trial.get("starts", 0)) + 1
    if starts > _TRIES:
        return f"its trial was cut short {_TRIES} times"
    _write(folder / "trial.json", {**trial, "starts": starts})  # before its effect: a power cut counts too
    return _watched(folder, trial, arguments)


def _watched(folder: Path, trial: dict[str, Any], arguments: list[str]) -> str | None:
    """Empty when the child was proven, else why it was not; then it has ended."""
    ready_seconds, alive_seconds = float(trial["ready_seconds"]), float(trial["alive_seconds"])
    with _scratch() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"{place}/notify")
        environment = {**os.environ, "NOTIFY_SOCKET": f"{place}/notify", "EDGEPACK_TRIAL": str(trial["version"])}
        environment["WATCHDOG_USEC"] = str(int(min(alive_seconds, 30.0) * 1e6))
        environment.pop("WATCHDOG_PID", None)
        asked: list[int] = []
        # Before there is a child, which would outlive this process if a signal ended it meanwhile.
        before = {one: signal.signal(one, lambda number, _: asked.append(number)) for one in _SIGNALS}
        # An agent that has made way lets some of them wait for the next one.
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            child = _child(_command(folder, str(trial["version"]), arguments), environment)
            try:
                reason = _judged(child, heard, asked, ready_seconds, alive_seconds)
            finally:
                _end(child, asked)
        except _NotStartedError as error:
            reason = str(error)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in before.items():
                signal.signal(number, handler)
    if {*asked} - {signal.SIGHUP}:
        sys.exit(0)
    return reason


class _NotStartedError(Exception):
    pass


def _child(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    me = os.getpid()
    try:
        return subprocess.Popen(command, env=environment, preexec_fn=lambda: _end_with(me))
    except OSError as error:
        raise _NotStartedError(f"it cannot be started ({error.strerror})") from error


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A folder that, when this process is killed, the next command of the agent removes (``edgepack.host.scratch``)."""
    while True:
        place = tempfile.mkdtemp(".scratch", "edgepack-trial-")
        with contextlib.suppress(FileNotFoundError):  # another process removed it before it was locked
            held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # a file system without locks: nobody else removes it there
                fcntl.flock(held, fcntl.LOCK_EX)
            if os.path.isdir(place):  # noqa: PTH112
                break
            os.close(held)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def _end_with(parent: int) -> None:
    """End this process with ``parent``, also where that is gone already: two agents would be in each other's way."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what only notes it would not be there any more after exec
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _judged(
    child: subprocess.Popen[bytes], heard: socket.socket, asked: list[int], ready_seconds: float, alive_seconds: float
) -> str | None:
    started = last = told = time.monotonic()
    ready: float | None = None
    while not asked:
        now = time.monotonic()
        if child.poll() is not None:
            return f"it ended by itself (exit code {child.returncode})"
        if ready is None and now - started > ready_seconds:
            return f"it was not ready within {ready_seconds:g} seconds"
        if ready is not None and now - last > max(alive_seconds, 1.0):
            return f"it did not say that it is alive for {alive_seconds:g} seconds"
        if ready is not None and now - ready >= alive_seconds and last > ready:
            return ""
        if ready is None and now - told > _TELL_SECONDS:  # systemd must not take the wait for a hang
            _forward(b"WATCHDOG=1")
            told = now
        with contextlib.suppress(InterruptedError):
            if not select.select([heard], [], [], 0.2)[0]:
                continue
            said = heard.recv(4096)
            _forward(said)
            last = time.monotonic()
            if ready is None and b"READY=1" in said.split(b"\n"):
                ready = last
    return None


def _forward(said: bytes) -> None:
    """Tell systemd what the child says, where systemd waits for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    lines = b"\n".join(line for line in said.split(b"\n") if not line.startswith(b"MAINPID="))
    if not address or not lines:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.sendto(lines, f"\0{address[1:]}" if address.startswith("@") else address)


def _end(child: subprocess.Popen[bytes], asked: list[int]) -> None:
    if child.poll() is not None:
        return
    child.send_signal(asked[0] if asked and asked[0] != signal.SIGHUP else signal.SIGTERM)
    try:
        child.wait(60)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("version"), str) else None


def _write(path: Path, value: dict[str, Any]) -> None:
    made = path.with_name(f".{path.name}")  # one name, so that what a power cut leaves is written over
    try:
        with made.open("wb") as file:
            file.write(json.dumps(value).encode())
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    except OSError:
        made.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _point(link: Path, target: str) -> None:
    made = link.with_name(f".{link.name}-{os.getpid()}")
    made.unlink(missing_ok=True)
    made.symlink_to(target)
    made.replace(link)
    _sync(link.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


if __name__ == "__main__":
    main(Path(sys.argv[0]).absolute().parent, sys.argv[1:])
