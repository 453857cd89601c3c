"""Our commands, run in forks of a process that has their imports already.

The imports of a short command take half a second, and many tests run many commands. Each fork is a process of its own,
with its own arguments, environment, folder, umask, standard files and exit code; only Python itself is not started
again. Where a test is of that start, of pipes or of signals, it starts the program.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support import running
from tests.support.running import SECONDS, Done

PROGRAM = Path(__file__).parent / "programs" / "forks.py"
# What commands that sign or verify import late, which takes a fifth of the time of such a command.
_SIGNING = ("securesystemslib.dsse", "securesystemslib.signer", "cryptography.hazmat.primitives.asymmetric.ed25519")
# Of each command: its room, and what is imported before.
COMMANDS = {
    "edgepack": ("packager", "packager.*", "sqlite3", "difflib", "paho.mqtt.client", *_SIGNING),
    "edge-agent": ("edge_agent", "edge_agent.*", *_SIGNING),
    "edge-server": ("edge_server", "edge_server.run", "onnxruntime"),
}
# What Python reads of its environment when it starts.
_READ_AT_START = ("PYTHON", "LC_", "LANG")


def finish(
    program: str,
    *words: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    given: str = "",
    umask: int = -1,
) -> Done:
    """Run one of our commands to its end, whatever that is; arguments are those of ``running.finish``.

    With an environment that changes how Python starts, the program itself is started.
    """
    environment = dict(os.environ if env is None else env)
    forks = _forks(program)
    if _at_start(environment) != forks.at_start:
        path = Path(sys.executable).with_name(program)
        return running.finish(path, *words, env=environment, cwd=cwd, given=given, umask=umask)
    job = {"argv": [program, *map(str, words)], "env": environment, "cwd": str(cwd or Path.cwd()), "umask": umask}
    with tempfile.TemporaryFile() as read, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        read.write(given.encode())
        read.seek(0)
        code = forks.run(job, [file.fileno() for file in (read, out, err)])
        out.seek(0)
        err.seek(0)
        return Done(code, out.read().decode(), err.read().decode())


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


class Forks:
    """A process that has imported a command, and forks to run it."""

    def __init__(self, program: str) -> None:
        self.at_start = _at_start(os.environ)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, str(PROGRAM), str(theirs.fileno()), *COMMANDS[program]]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd="/")
        atexit.register(self.close)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self._process.wait()

    def run(self, job: Mapping[str, object], files: Sequence[int]) -> int:
        """Run the command with these three standard files; its exit code (negative: the signal)."""
        socket.send_fds(self._channel, [json.dumps(job).encode()], files)
        self._channel.settimeout(SECONDS)
        pid = int(self._channel.recv(100))
        try:
            return int(self._channel.recv(100))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._channel.recv(100)
            raise


_forks = cache(Forks)
