"""One worker process from the server's side: started, connected by a socket, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from edge_server.config.sizes import SIZES
from edge_server.config.values import ScriptConfig, ServiceConfig
from edge_server.scripts.frames import BrokenStreamError, Frame, FrameReader
from edge_server.scripts.worker_memory import WorkerMemory
from edge_server.scripts.worker_output import WorkerOutput

# How long a worker whose socket has ended may take to end itself (seconds).
_LINGER = 1.0
# How often a worker is checked where the kernel does not report its end (seconds).
_POLL = 0.1


class WorkerProcess:
    """A process that runs ``edge_server.scripts.worker``. ``on_frames`` gets its frames, then ``on_exit`` its return
    code, once. The rest are notes of the service: the ``deadline`` of its start, the ``problem`` that it reported, why
    it was ``ended_for``, and whether it has ``heard`` of the last overdue call.
    """

    deadline: asyncio.TimerHandle

    def __init__(
        self,
        number: int,
        on_frames: Callable[[WorkerProcess, list[Frame]], None],
        on_exit: Callable[[WorkerProcess, int], None],
    ) -> None:
        self.number = number
        self.loop = asyncio.get_running_loop()
        self.exited = False
        self.problem = ""
        self.ended_for = ""
        self.heard = False
        self._on_frames = on_frames
        self._on_exit = on_exit
        self._reader = FrameReader()
        self._outgoing: list[bytes] = []
        self._unsent = memoryview(b"")

    def start(self, config: ServiceConfig, script: ScriptConfig, environment: Mapping[str, str]) -> None:
        """Start the process; OSError when the system has no room for it."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SIZES.worker_socket)
        ours.setblocking(False)
        self.memory, shared = WorkerMemory.create(script.threads)
        output = WorkerOutput(self.loop, self.number)
        root = config.root if config.root.is_dir() else script.folder.parent
        options = {
            "server": os.getpid(),
            "file": str(script.file),
            "folder": str(script.folder),
            "root": str(root),
            "threads": script.threads,
            "level": config.logging.level,
        }
        descriptors = (theirs.fileno(), output.ends[2], shared)
        try:
            self._process = subprocess.Popen(
                # -P: the working directory belongs to the user, and must not shadow the standard library.
                [sys.executable, "-P", "-m", "edge_server.scripts.worker"]
                + [str(descriptor) for descriptor in descriptors]
                + [orjson.dumps(options).decode()],
                stdin=subprocess.DEVNULL,
                stdout=output.ends[0],
                stderr=output.ends[1],
                pass_fds=descriptors,
                cwd=root,
                env={**os.environ, **environment, **_python_path()},
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            output.started()
            output.close()
            raise
        else:
            output.started()
        finally:
            theirs.close()
            os.close(shared)
        self._socket = ours
        self._output = output
        self.loop.add_reader(ours, self._on_readable)
        try:
            self._watch = os.pidfd_open(self._process.pid)
        except OSError:  # Linux before 5.3
            self._watch = -1
            self.loop.call_later(_POLL, self._poll)
        else:
            self.loop.add_reader(self._watch, self._on_end)

    @property
    def pid(self) -> int:
        """The process' number."""
        return self._process.pid

    def send(self, frame: bytes, at_once: bool = False) -> None:
        """Send a frame, at once or together with others of this turn of the event loop."""
        idle = not self._outgoing and not self._unsent
        self._outgoing.append(frame)
        if idle and at_once:
            self._flush()
        elif idle:
            self.loop.call_soon(self._flush)

    def signal(self, number: int) -> None:
        """Send the process a signal, if it is still there."""
        if not self.exited:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the process and everything that it started in its own group, at once."""
        if not self.exited:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the process's socket for reading: it ends after its current call."""
        if not self.exited:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        if self.exited:
            return
        if not self._unsent:
            data = self._outgoing[0] if len(self._outgoing) == 1 else b"".join(self._outgoing)
            self._unsent = memoryview(data)
            self._outgoing.clear()
        try:
            # An empty view would still hold the whole frame.
            self._unsent = self._unsent[self._socket.send(self._unsent) :] or memoryview(b"")
        except BlockingIOError:
            pass
        except OSError:  # its exit shows what happened
            self._unsent = memoryview(b"")
            self._outgoing.clear()
            return
        if self._unsent:
            self.loop.add_writer(self._socket, self._flush_more)
        elif self._outgoing:
            self.loop.call_soon(self._flush)

    def _flush_more(self) -> None:
        self.loop.remove_writer(self._socket)
        self._flush()

    def _on_readable(self) -> None:
        if not self._receive():
            self.loop.remove_reader(self._socket)
            self.loop.call_later(_LINGER, self._end_unheard)

    def _end_unheard(self) -> None:
        if not self.exited:
            self.ended_for = self.ended_for or "socket"
            self.kill()

    def _receive(self) -> bool:
        """Read once; False at the end of the stream."""
        try:
            data = self._socket.recv(SIZES.received)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self._take(self._reader, data)
        return True

    def _take(self, reader: FrameReader, data: bytes) -> None:
        """Pass on the frames in ``data``; a worker whose stream is malformed is ended."""
        try:
            self._on_frames(self, reader.feed(data))
        except (BrokenStreamError, ValueError, TypeError, LookupError, AttributeError):
            self.ended_for = "socket"
            self.kill()

    def peek(self) -> None:
        """Pass on answers that the worker has not sent yet; they may come a second time."""
        if waiting := self.memory.peek():
            self._take(FrameReader(), waiting)

    def _poll(self) -> None:
        # Not reaped yet: until then its number, and its group's, are not used again.
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            self.loop.call_later(_POLL, self._poll)
        else:
            self._on_end()

    def _on_end(self) -> None:
        # Its children are killed too; before the process is reaped, so that the group's number is still its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.poll() is None:
            return
        if self._watch >= 0:
            self.loop.remove_reader(self._watch)
            os.close(self._watch)
        self.loop.remove_reader(self._socket)
        self.loop.remove_writer(self._socket)
        while True:
            try:
                data = self._socket.recv(SIZES.received)
            except OSError:
                break
            if not data:
                break
            self._take(self._reader, data)
        self.peek()
        self.exited = True
        self._socket.close()
        self._output.close()
        self._on_exit(self, int(self._process.returncode))
        self.memory.close()


def _python_path() -> dict[str, str]:
    """The variable by which the worker finds this package, unless it is installed where Python looks anyway."""
    parent = Path(__file__).parents[2]
    if parent.name in ("site-packages", "dist-packages"):
        return {}
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{parent}{os.pathsep}{before}" if before else str(parent)}


def describe_exit(code: int) -> str:
    """How a process ended, in words: ``exit code 3`` or ``signal SIGSEGV``."""
    if code >= 0:
        return f"exit code {code}"
    if code == -signal.SIGKILL:
        return "signal SIGKILL, as when memory runs out"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
