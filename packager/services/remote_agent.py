"""``edge-agent`` on a device that is reached by ssh: its commands, and its JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from edgepack.errors import EdgepackError, MissingPartError
from packager.fleet.reach import Reach
from packager.fleet.ssh import Finished, Ssh, last_line
from packager.services.agent_command import agent_error

_NAME = "edge-agent"
# What a shell ends with for a command that it does not find, or may not run (POSIX, "Exit Status for Commands").
_ABSENT = (126, 127)
# For what only reads there.
_SECONDS = 60.0


@dataclass(frozen=True)
class RemoteAgent:
    """The agent of ``device``; ``program`` is where it is there, ``state_dir`` its folder where that is another."""

    device: str
    ssh: Ssh
    program: str = _NAME
    state_dir: str | None = None

    @classmethod
    def of(cls, device: str, reach: Reach) -> RemoteAgent:
        """The agent of the device called ``device``, as ``reach`` says; raises as ``Ssh.of``."""
        return cls(device, Ssh.of(reach), reach.agent or _NAME, reach.state_dir)

    def line(self, *words: str) -> str:
        """The words for the shell there."""
        beside = [] if self.state_dir is None else ["--state-dir", self.state_dir]
        return shlex.join([self.program, *beside, *words])

    def fed(self, *words: str) -> str:
        """The same for a command that reads a file ``-``: what sshd gives it as standard input may be a socket."""
        return f"cat | {self.line(*words)}"

    def run(self, *words: str, seconds: float = _SECONDS, stdin: BinaryIO | bytes | None = None) -> Finished:
        """Run a command to its end, however that is.

        Raises ``UnreachedError`` where the device is not reached, and ``MissingPartError`` where it has no agent.
        """
        done = self.ssh.run(self.line(*words) if stdin is None else self.fed(*words), seconds, stdin)
        if done.code in _ABSENT:
            where = self.ssh.by_hand(f"command -v {shlex.quote(self.program)}")
            raise MissingPartError(
                f"has no {self.program} that a login without a terminal finds ({last_line(done.stderr)})",
                where=f"device {self.device}",
                hint="install it there, and give its path where it is not found, by --agent of edgepack device reach; "
                f"see: {where}",
            )  # fmt: skip
        return done

    def json(self, *words: str, seconds: float = _SECONDS, stdin: BinaryIO | bytes | None = None) -> Mapping[str, Any]:
        """The object that a command answers; raises as ``run``, and an error of the kind that its exit code says."""
        done = self.run(*words, "--output", "json", seconds=seconds, stdin=stdin)
        if done.code != 0:
            raise self.error(done, words[0])
        return self.parsed(done)

    def text(self, *words: str, seconds: float = _SECONDS) -> bytes:
        """What a command prints; raises as ``json``."""
        done = self.run(*words, seconds=seconds)
        if done.code != 0:
            raise self.error(done, words[0])
        return done.stdout

    def lines(self, *words: str) -> Iterator[str]:
        """What a command prints, as it comes."""
        return self.ssh.lines(self.line(*words))

    def error(self, done: Finished, verb: str) -> EdgepackError:
        """The error of a command that has failed."""
        return agent_error(done.code, done.stderr, verb, f"device {self.device}")

    def parsed(self, done: Finished) -> Mapping[str, Any]:
        """The object in what a command printed; raises ``MissingPartError`` where there is something else."""
        try:
            found = json.loads(done.stdout)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            said = last_line(done.stdout.decode("utf-8", "replace")) or "nothing"
            raise MissingPartError(
                f"answers something else than {_NAME} does: {said}",
                where=f"device {self.device}",
                hint="let the start-up files of its shell print nothing without a terminal, and see: "
                + self.ssh.by_hand(self.line("status", "--output", "json")),
            )  # fmt: skip
        return found
