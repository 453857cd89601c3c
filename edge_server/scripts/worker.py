"""The worker process: imports the script, calls init(), then answers calls until the server closes the socket.

``python -m edge_server.scripts.worker SOCKET LOG MEMORY OPTIONS``: three inherited descriptors and the JSON of
WorkerOptions.
"""

from __future__ import annotations

import ctypes
import inspect
import io
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from edge_server.compat import azure
from edge_server.scripts import frames
from edge_server.scripts.calls import Caller
from edge_server.scripts.hidden_modules import HiddenModuleError
from edge_server.scripts.loops import DirectLoop, Loop, ThreadLoop
from edge_server.scripts.outputs import encode_json
from edge_server.scripts.records import PipeHandler
from edge_server.scripts.script import EntryScript, StartError, failure, load
from edge_server.scripts.user_modules import set_up
from edge_server.scripts.worker_memory import WorkerMemory

if TYPE_CHECKING:
    import asyncio

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> int:
    """Run one worker; the exit status is 0 after the server's end, 5 when the script cannot start."""
    connection = socket.socket(fileno=int(arguments[0]))
    log, shared = int(arguments[1]), int(arguments[2])
    options: dict[str, Any] = orjson.loads(arguments[3])
    _tie_to(options["server"])
    for descriptor in (connection.fileno(), log):
        os.set_inheritable(descriptor, False)
    threads = options["threads"]
    memory = WorkerMemory(shared, threads)
    os.close(shared)
    # A fork must not answer for its parent, nor keep the socket open when the parent is gone.
    os.register_at_fork(after_in_child=connection.close)
    _set_up_output(log, options["level"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before READY: an unhandled signal would end the process.
    signal.signal(frames.OVERDUE_SIGNAL, signal.SIG_IGN)
    loop = Loops()
    try:
        script = _start(Path(options["file"]), options["folder"], options["root"], loop)
    except StartError as error:
        body = encode_json({"sentence": error.sentence, "details": error.details})
        connection.sendall(frames.encode(frames.FAILED, 0, 0, body))
        return 5
    caller = Caller(script)
    serving: Loop
    if script.is_async:
        from edge_server.scripts.async_loop import AsyncLoop

        serving = AsyncLoop(connection, memory, caller, loop.get())
    elif threads > 1:
        serving = ThreadLoop(connection, memory, caller, threads)
    else:
        serving = DirectLoop(connection, memory, caller)
    connection.sendall(frames.encode(frames.READY, 0, 0, encode_json(script.describe())))
    serving.run()
    return 0


class Loops:
    """The event loop of ``async def`` functions, made when it is needed: importing asyncio costs memory."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """The one loop of the process."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop


def _tie_to(server: int) -> None:
    """Have the kernel kill this process when the server ends, whatever the script does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(0)


def _set_up_output(log: int, level: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    root = logging.getLogger()
    root.handlers[:] = [PipeHandler(log)]
    root.setLevel(level.upper())


def _start(file: Path, folder: str, root: str, loop: Loops) -> EntryScript:
    """Import the script and run its init(); StartError when that fails."""
    try:
        guard = set_up(file, Path(folder), root, azure.always_ours())
        azure.install()
        script = load(file, Path(folder))
        if inspect.iscoroutinefunction(script.init):
            loop.get().run_until_complete(script.init())
        else:
            script.init()
        if guard.refused is not None:
            raise guard.refused
    except StartError:
        raise
    except HiddenModuleError as error:
        raise StartError(str(error)) from None
    except BaseException as error:  # noqa: BLE001 - scripts call sys.exit() too
        raise failure(file, "init() of the entry script", error) from None
    return script


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
