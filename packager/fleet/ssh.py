"""The system's own ``ssh`` client, as commands call it: it asks nothing, checks host keys, and ends.

What the user has in ``~/.ssh/config`` counts, such as jump hosts and agents.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack.errors import MissingPartError, UsageError
from edgepack.text import printable
from packager.fleet.reach import NotToldError, Reach

PROGRAM = "ssh"
# ssh(1), "EXIT STATUS": what it ends with for itself; else with what the command there ended with.
_OWN_FAILURE = 255
_CONNECT_SECONDS = 10
# A connection over which nothing comes for that long, three times, is cut.
_ALIVE_SECONDS = 5
# No shell, here or there, reads more into these; a name of a host or user that begins with a dash is an option.
_USER = r"[A-Za-z0-9_.][A-Za-z0-9_.@\\-]*"
_DESTINATION = re.compile(
    rf"(?:(?P<user>{_USER})@)?(?:(?P<host>[A-Za-z0-9_.][A-Za-z0-9_.-]*)|\[(?P<six>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


class UnreachedError(NotToldError):
    """ssh itself has failed: the host, its key, the login, or the connection on its way."""


@dataclass(frozen=True)
class Finished:
    """How a command ended on the other machine."""

    code: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True)
class Ssh:
    """``host`` as ssh knows it, the rest where it is not as ssh would choose it."""

    host: str
    user: str | None = None
    port: int | None = None
    identity_file: Path | None = None
    config: Path | None = None

    @classmethod
    def of(cls, reach: Reach) -> Ssh:
        """The way to the machine of ``reach``; raises ``UsageError`` for a destination that is none."""
        text = reach.ssh or ""
        found = _DESTINATION.fullmatch(text)
        port = None if found is None or found["port"] is None else int(found["port"])
        if found is None or not (port is None or 0 < port < 65536):
            raise UsageError(
                f"{text!r} is not a machine for ssh", where="--ssh",
                hint="write USER@HOST[:PORT], such as edge@press-7.lan:22, or edge@[fe80::7]:22",
            )  # fmt: skip
        for name, file in (("--identity-file", reach.identity_file), ("--ssh-config", reach.ssh_config)):
            if file is not None and (not file.exists() or file.is_dir()):
                raise UsageError("there is no such file", where=f"{name} {file}", hint="check the path")
        return cls(found["host"] or found["six"], found["user"], port, reach.identity_file, reach.ssh_config)

    def line(self, command: str) -> list[str]:
        """The words that run ``command`` in the shell there; raises ``MissingPartError`` where there is no client."""
        if shutil.which(PROGRAM) is None:
            hint = "install it (Debian: openssh-client), or reach the device by a broker or a folder"
            raise MissingPartError("is not installed", where=PROGRAM, hint=hint)
        # Nothing here reads ``command`` as more than one word.
        return [PROGRAM, *self._way, *_SETTINGS, "--", self.host, command]

    def by_hand(self, command: str) -> str:
        """What a person types to run ``command`` there, who is then asked what nobody is asked here."""
        return shlex.join([PROGRAM, *self._way, self.host, command])

    @property
    def _way(self) -> list[str]:
        return [
            *([] if self.config is None else ["-F", str(self.config)]),
            *([] if self.identity_file is None else ["-i", str(self.identity_file), "-o", "IdentitiesOnly=yes"]),
            *([] if self.user is None else ["-l", self.user]),
            *([] if self.port is None else ["-p", str(self.port)]),
        ]

    def run(self, command: str, seconds: float, stdin: BinaryIO | bytes | None = None) -> Finished:
        """Run ``command`` in the shell there, and wait for its end.

        Raises ``UnreachedError`` where ssh fails, or nothing has come to an end after ``seconds``.
        """
        data, file = (stdin, None) if isinstance(stdin, bytes) else (None, stdin or subprocess.DEVNULL)
        line = self.line(command)
        try:
            done = subprocess.run(line, input=data, stdin=file, capture_output=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise self._unreached(f"has not answered within {seconds:g} seconds") from None
        said = done.stderr.decode("utf-8", "replace")
        if done.returncode == _OWN_FAILURE:
            raise self._unreached(f"cannot be reached: {_words(said)}")
        return Finished(done.returncode, done.stdout, said)

    def lines(self, command: str) -> Iterator[str]:
        """What ``command`` prints there, as it comes; it is ended when nobody reads on. Raises ``UnreachedError``."""
        with subprocess.Popen(
            self.line(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                for line in process.stdout or ():
                    yield line.decode("utf-8", "replace").rstrip("\n")
                said = b"" if process.stderr is None else process.stderr.read()
                if process.wait() != 0:
                    raise self._unreached(f"ended: {_words(said.decode('utf-8', 'replace'))}")
            finally:
                process.terminate()

    @property
    def where(self) -> str:
        """The machine, for an error."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        return f"{user}{host}" + ("" if self.port is None else f":{self.port}")

    def _unreached(self, what: str) -> UnreachedError:
        # Who types it is asked for the host's key and for passwords, and reads at length what is wrong with them.
        hint = f"nothing is asked here; see what it asks or says by hand: {self.by_hand('edge-agent --version')}"
        return UnreachedError(what, where=f"ssh {self.where}", hint=hint)


_SETTINGS: Sequence[str] = [
    "-T", "-x", "-a",
    "-o", "BatchMode=yes",
    "-o", "StrictHostKeyChecking=yes",
    "-o", f"ConnectTimeout={_CONNECT_SECONDS}",
    "-o", f"ServerAliveInterval={_ALIVE_SECONDS}",
    "-o", "ServerAliveCountMax=3",
    "-o", "ClearAllForwardings=yes",
    "-o", "PermitLocalCommand=no",
    "-o", "LogLevel=ERROR",
]  # fmt: skip


def _words(said: str) -> str:
    return last_line(said).removeprefix(f"{PROGRAM}: ").rstrip(".") or "ssh says no more"


def last_line(text: str) -> str:
    """The last line of ``text`` that says something."""
    return next((printable(line.strip()) for line in reversed(text.splitlines()) if line.strip()), "")
