"""Jobs without the start of an interpreter: a process that only waits, and that jobs are forked from.

It is forked from the agent before that has threads, and loads what jobs are made of once. What a job costs is then a
fork, in place of a third of a second of a processor. Its memory is shared with the agent's as far as neither changed
it. Where the kernel has no descriptors of processes (before 5.3), or it has ended, jobs are started as programs.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

import edgepack
from edge_agent.daemon.signals import let_come
from edge_agent.jobs.main import run
from edgepack.limits import LIMITS

# A fork takes milliseconds; who does not answer within this time has no memory for it, or is stopped.
_ANSWER_SECONDS = 10.0
# What is loaded before, by the runtime of the configuration: what takes jobs longest. The rest would cost more memory
# than it saves time, cryptography above all.
_MODULES = {"docker": "edge_agent.runtimes.engine.runtime", "auto": "edge_agent.runtimes.engine.runtime"}
_NAME = b"edge-agent-job"
_ASKED = frozenset({signal.SIGTERM})
_SET_DEATH_SIGNAL, _SET_NAME = 1, 15  # prctl(2)


class Forked:
    """A job that was forked, as ``subprocess.Popen`` has a process: what is needed of that."""

    def __init__(self, pid: int, pidfd: int, ended: int) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._ended = ended
        self._code: int | None = None

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative after a signal; raises ``subprocess.TimeoutExpired``."""
        if self._code is None:
            waiting = select.poll()
            waiting.register(self._ended, select.POLLIN)
            if not waiting.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("job", timeout or 0.0)
            # Nothing is told where the one that it was forked from was killed, which ends it too.
            self._code = int(os.read(self._ended, 32) or -signal.SIGTERM)
            os.close(self._ended)
            os.close(self._pidfd)
        return self._code


class ForkServer:
    """The process at the other end of ``sock``, which jobs are forked from."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self._pid = pid
        self._sock: socket.socket | None = sock
        self._program = _program()

    @classmethod
    def begin(cls, runtime: str) -> ForkServer | None:
        """Fork it, from a process that has one thread; ``None`` where the system has no means for that.

        In each job this raises ``SystemExit`` once the job is done.
        """
        if not hasattr(os, "pidfd_open"):
            return None
        try:
            os.close(os.pidfd_open(os.getpid()))
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # No collection in either process touches, and thereby copies, what both have.
            gc.collect()
            gc.freeze()
            pid = os.fork()
        except OSError:
            return None
        if pid:
            theirs.close()
            ours.settimeout(_ANSWER_SECONDS)
            return cls(pid, ours)
        ours.close()
        raise SystemExit(_serve(theirs, runtime))

    def start(self, words: Sequence[str], given: int, out: int) -> Forked | None:
        """Start a job with these standard streams; ``None`` where that has to be done in another way.

        Raises ``OSError`` where the system has no memory or no processes for it.
        """
        if self._program != _program():
            self.close()  # the files are another version's: what it loads from now on would not fit what it has
        if self._sock is None:
            return None
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            socket.send_fds(self._sock, [json.dumps(list(words)).encode()], [given, out, write])
            data, fds, _, _ = socket.recv_fds(self._sock, LIMITS.chunk_bytes, 1)
        except OSError:
            data, fds = b"", []
        finally:
            os.close(write)
        if not data or (data[:1] != b"-" and not fds):
            os.close(read)
            self.close()  # a job that it may have started ends with it
            return None
        if not fds:
            os.close(read)
            raise OSError(-int(data), os.strerror(-int(data)))
        return Forked(int(data), fds[0], read)

    def close(self) -> None:
        """Let it end; jobs that run are asked to."""
        if self._sock is None:
            return
        self._sock.close()
        self._sock = None
        end = time.monotonic() + 1.0
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self._pid, os.WNOHANG)[0] == 0 and time.monotonic() < end:
                time.sleep(0.005)


def _program() -> tuple[int, int] | None:
    """What changes when the agent's files are replaced."""
    try:
        found = os.stat(edgepack.__file__)  # noqa: PTH116 - this runs for each job
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _serve(sock: socket.socket, runtime: str) -> int:
    """Fork a job for each request, until nobody can send one any more; returns in each job, with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group, or unit: the agent ends, and then this
    let_come()  # what it ignores, and what its jobs do not
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    _load(runtime)
    jobs: dict[int, int] = {}
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            _reap(jobs)
        if sock.fileno() in ready:
            data, fds, _, _ = socket.recv_fds(sock, LIMITS.chunk_bytes, 3)
            if not data:
                os._exit(0)
            try:
                pid = _fork(sock, fds)
            except OSError:  # the agent is gone: it was killed
                os._exit(0)
            if pid == 0:
                return _become(json.loads(data), fds, [sock.detach(), wake, woken, *jobs.values()])
            if pid > 0:
                jobs[pid] = fds.pop()
            for fd in fds:
                os.close(fd)


def _load(runtime: str) -> None:
    if runtime in _MODULES:
        importlib.import_module(_MODULES[runtime])
    gc.collect()
    gc.freeze()  # so that no collection in a job touches, and thereby copies, all of it


def _fork(sock: socket.socket, fds: Sequence[int]) -> int:
    """Fork, and tell the agent: the child's number in its parent, 0 in the child, negative where there is none."""
    parent = os.getpid()
    # What is asked to end before it stops to ignore that is to end then.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED)
    try:
        pid = os.fork()
        if pid == 0:
            _end_with(parent)
            return 0
    except OSError as error:
        sock.send(str(-(error.errno or 1)).encode())
        return -1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED)
    pidfd = os.pidfd_open(pid)  # it was not waited for yet, so that it is this one
    try:
        socket.send_fds(sock, [str(pid).encode()], [pidfd])
    finally:
        os.close(pidfd)
    return pid


def _end_with(parent: int) -> None:
    """Be ended with the process ``parent``, which may be gone already."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_NAME, _NAME, 0, 0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    libc.prctl(_SET_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def _become(words: list[str], fds: Sequence[int], others: Sequence[int]) -> int:
    """Do the job ``words`` with the standard streams that came with it; its exit code."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given, out, ended = fds
    os.dup2(given, 0)
    os.dup2(out, 1)
    for fd in {given, out, ended, *others} - {0, 1, 2}:
        os.close(fd)
    return run(words)


def _reap(jobs: dict[int, int]) -> None:
    """Tell of each job that has ended how it did."""
    while jobs:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended = jobs.pop(pid, None)
        if ended is not None:
            with contextlib.suppress(OSError):  # the agent is gone
                os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(ended)
