"""``python forks.py CHANNEL ROOM MODULES``: run the command of ROOM in forks, as often as asked.

CHANNEL is the number of a socket. On it come an argument line, an environment, a folder and an umask as JSON, with the
three standard files; the fork's process id and then its exit code go back. MODULES are imported before the first fork;
``NAME.*`` is every module of a package.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn


def become(job: dict[str, Any], files: list[int]) -> None:
    """Be the process that was asked for."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    if job["umask"] >= 0:
        os.umask(job["umask"])
    sys.argv[:] = job["argv"]


def run(command: Callable[[], None]) -> int:
    """The exit code that Python gives ``command``; another exception than ``SystemExit`` is left to Python."""
    try:
        command()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        sys.stderr.write(f"{ended.code}\n")
        return 1
    return 0


def end(code: int) -> NoReturn:
    """End as Python does, but do not take apart what is in memory, which is mostly not of this command.

    That takes three times as long as a short command.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os._exit(120)
    os._exit(code & 0xFF)


def main() -> None:
    """Serve until the channel is closed; in a fork, end as the command does."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    # It ends with the test run, which is told to stop by the same key.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = importlib.import_module(f"{sys.argv[2]}.__main__").command
    for name in sys.argv[3:]:
        module = importlib.import_module(name.removesuffix(".*"))
        for found in pkgutil.walk_packages(module.__path__, f"{module.__name__}.") if name.endswith(".*") else ():
            importlib.import_module(found.name)
    assert threading.active_count() == 1, "a fork would not have these threads"
    gc.collect()
    gc.freeze()
    while True:
        request, files, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            channel.close()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            become(json.loads(request), files)
            end(run(command))
        for file in files:
            os.close(file)
        channel.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        channel.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    main()
