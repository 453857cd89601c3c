"""Several server processes on one port: started, watched, started again when they die, stopped together.

Each has a listening socket of its own (SO_REUSEPORT), among which the kernel spreads the connections; sockets that were
handed over are shared by all. All sockets are held here as well, so that connections waiting at a process that died are
served by its replacement.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from edge_server.config.values import ServiceConfig
from edge_server.errors import ScoringError, package_errors
from edge_server.listening import Listeners
from edge_server.models.running.threads import threads_per_process
from edge_server.telemetry.cells import share

if TYPE_CHECKING:
    from edge_server.models.loading import Opened

# A process that ran for this long is replaced at once; for one that dies sooner, the wait doubles each time.
_SETTLED_SECONDS = 60.0
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 30.0
# How long processes may take after their own grace period before they are killed.
_KILL_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_log = logging.getLogger("edge_server")


@dataclass(frozen=True)
class ProcessContext:
    """What one server process gets: its ``number`` from 0, and memory for metrics, which all of them share.

    ``preloaded`` are models that the processes share. ``announce`` is called with facts for the log once requests are
    answered.
    """

    number: int
    memory: mmap.mmap
    preloaded: Mapping[str, Opened]
    announce: Callable[[Mapping[str, Any]], None]


Serve = Callable[[ServiceConfig, Listeners, ProcessContext], None]


@package_errors()
def run(config: ServiceConfig, listeners: Listeners, serve: Serve) -> int:
    """Run ``serve`` in ``config.runtime.processes`` processes until SIGTERM or SIGINT; return the exit code.

    ``listeners`` hold the address, bound and not listening, or were inherited; they are closed. Where one of the
    processes cannot start, all are stopped, and its exit code is returned. Raises ScoringError when the address cannot
    be shared or a model cannot be served.
    """
    shared = _shared(listeners, config.runtime.processes)
    preloaded: Mapping[str, Opened] = {}
    # Shared memory is not freed when one process unloads a model, and a session's threads do not survive a fork: a
    # model on several threads, or under a budget, is loaded by each process for itself.
    if config.script is None and config.runtime.memory_bytes is None and threads_per_process(config.runtime) == 1:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from edge_server.models.catalog import preload

        preloaded = preload(config)
    return _Manager(config, shared, serve, preloaded).run()


@dataclass
class _Child:
    """One of the processes; ``pid`` is 0 while it does not run, ``due`` is when it is started again."""

    number: int
    listeners: Listeners
    pid: int = 0
    pipe: int = -1
    ready: bool = False
    started: float = 0.0
    wait: float = 0.0
    due: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


class _Manager:
    def __init__(
        self,
        config: ServiceConfig,
        listeners: list[Listeners],
        serve: Serve,
        preloaded: Mapping[str, Opened],
    ) -> None:
        self._config = config
        self._serve = serve
        self._preloaded = preloaded
        self._memory = share(len(listeners))
        self._children = [_Child(number, one) for number, one in enumerate(listeners)]
        self._signals: list[int] = []
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._kept: dict[int, Any] = {}
        self._ready = False
        self._stopping = False
        self._kill_at = float("inf")
        self._code = 0

    def run(self) -> int:
        """Run until all processes have ended for good."""
        self._take_signals()
        for child in self._children:
            self._start(child)
        while not self._stopping or any(child.pid for child in self._children):
            self._wait()
            if self._signals:
                self._signals.clear()
                self._stop()
            self._listen()
            self._reap()
            self._restart()
            self._kill()
        return self._code

    def _take_signals(self) -> None:
        def note(number: int, frame: FrameType | None) -> None:
            if number != signal.SIGCHLD:
                self._signals.append(number)

        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            self._kept[number] = signal.signal(number, note)

    def _wait(self) -> None:
        """Wait until a signal comes, a process is ready, or something is due."""
        poller = select.poll()
        poller.register(self._wake[0], select.POLLIN)
        for child in self._children:
            if child.pipe >= 0:
                poller.register(child.pipe, select.POLLIN)
        due = [child.due for child in self._children if not child.pid and not self._stopping]
        left = min([*due, self._kill_at]) - time.monotonic()
        poller.poll(None if left == float("inf") else max(0, left) * 1000)
        with suppress(BlockingIOError):
            os.read(self._wake[0], 4096)

    def _listen(self) -> None:
        """Read which processes are ready; log it once all are."""
        for child in self._children:
            if child.pipe < 0:
                continue
            try:
                announced = os.read(child.pipe, 65536)
            except BlockingIOError:
                continue
            os.close(child.pipe)
            child.pipe = -1
            if announced:
                child.ready = True
                child.facts = orjson.loads(announced)
        if not self._ready and all(child.ready for child in self._children):
            self._ready = True
            _log.info("ready", extra={**self._children[0].facts, "processes": len(self._children)})

    def _reap(self) -> None:
        """Reap the processes that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # As the first process of a container, this one is the parent of all orphans.
            child = next((child for child in self._children if child.pid == pid), None)
            if child is not None:
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, code: int) -> None:
        facts = {"number": child.number, "pid": child.pid, "code": code}
        child.pid = 0
        if self._stopping:
            if code and not self._code:
                self._code = 1
            return
        if not self._ready:
            # It has logged why; the others would fail too, or serve only a part of what was asked for.
            self._code = code if code > 0 else 1
            _log.error("a process could not start", extra=facts)
            self._stop()
            return
        now = time.monotonic()
        lived = now - child.started
        child.wait = 0.0 if lived > _SETTLED_SECONDS else min(_LONGEST_WAIT, child.wait * 2 or _FIRST_WAIT)
        child.due = now + child.wait
        _log.error("a process ended and is replaced", extra={**facts, "seconds": child.wait})

    def _restart(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.pid and not self._stopping and child.due <= now:
                self._start(child)

    def _start(self, child: _Child) -> None:
        if child.pipe >= 0:
            os.close(child.pipe)
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        parent = os.getpid()
        # A signal that arrives before the child has its own handlers would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._kept)
        pid = os.fork()
        if not pid:
            os.close(reading)
            self._become(child, writing, parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._kept)
        os.close(writing)
        child.pid, child.pipe, child.ready, child.started = pid, reading, False, time.monotonic()

    def _become(self, child: _Child, pipe: int, parent: int) -> NoReturn:
        """Run as the server process until it ends, and never return to the manager's code."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number, handler in self._kept.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._kept)
            for descriptor in self._wake:
                os.close(descriptor)
            for other in self._children:
                if other is not child:
                    other.listeners.close()
                if other.pipe >= 0:
                    os.close(other.pipe)
            _end_with(parent)

            def announce(facts: Mapping[str, Any]) -> None:
                os.write(pipe, orjson.dumps(facts))
                os.close(pipe)

            self._serve(
                self._config, child.listeners, ProcessContext(child.number, self._memory, self._preloaded, announce)
            )
            code = 0
        except ScoringError as error:
            sys.stderr.write(f"edge-server: {error}\n")
            code = error.exit_code
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except Exception:  # noqa: BLE001 - the outermost edge of this process
            _log.exception("a process failed")
        finally:
            logging.shutdown()
            sys.stderr.flush()
            # Not by the manager's own shutdown: its threads and handlers do not belong to this process.
            os._exit(code)

    def _stop(self) -> None:
        """Pass SIGTERM on. A second signal is passed on too, with no other effect."""
        if not self._stopping:
            self._stopping = True
            limits = self._config.limits
            self._kill_at = time.monotonic() + limits.drain_seconds + limits.grace_seconds + _KILL_SECONDS
            # New connections wait at no process: they are refused when the last one closes its socket.
            for child in self._children:
                child.listeners.close()
        self._signal(signal.SIGTERM)

    def _kill(self) -> None:
        if time.monotonic() >= self._kill_at:
            self._kill_at = float("inf")
            _log.error("processes that did not stop are killed")
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, number)


def _shared(listeners: Listeners, number: int) -> list[Listeners]:
    """The sockets of each of ``number`` processes."""
    if not listeners.inherited:
        return [Listeners((one,)) for one in _share_address(listeners.first, number)]
    # Closing one's own leaves those of the others open.
    shared = [Listeners(tuple(one.dup() for one in listeners.sockets), inherited=True) for _ in range(number)]
    listeners.close()
    return shared


def _share_address(listener: socket.socket, number: int) -> list[socket.socket]:
    """That many sockets bound to the address that ``listener`` held.

    It was bound without sharing: two services that both share would not notice the conflict.
    """
    family, address = listener.family, listener.getsockname()
    listener.close()
    listeners = []
    for _ in range(number):
        one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listeners.append(one)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(address)
        except OSError as error:
            for opened in listeners:
                opened.close()
            reason = error.strerror or str(error)
            raise ScoringError(
                f"{number} processes cannot share {address[0]} port {address[1]}: {reason}; choose another port"
            ) from None
    return listeners


def _end_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the manager dies: nothing else would stop this process then."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)
