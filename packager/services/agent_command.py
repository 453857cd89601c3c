"""The ``edge-agent`` command and its JSON: the only way in which this room speaks to an agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import (
    EdgepackError,
    MissingPartError,
    NotFoundError,
    RuntimeFailedError,
    UsageError,
    VerificationError,
)

_NAME = "edge-agent"
_KINDS: dict[int, type[EdgepackError]] = {2: UsageError, 3: NotFoundError, 4: VerificationError}


@dataclass(frozen=True)
class AgentCommand:
    """``edge-agent`` on the device at ``folder`` of this machine; without a ``runtime``, the first that works."""

    folder: Path
    runtime: str = "auto"

    def json(self, *words: str, tolerant: bool = False) -> Any:
        """What the command answers; with ``tolerant`` also when it fails after an answer.

        Raises an error of the kind that the exit code says, with the command's own sentence.
        """
        done = subprocess.run(
            self.line(*words, "--output", "json"), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, env=self.environment(),
        )  # fmt: skip
        if done.returncode != 0 and not (tolerant and done.stdout.strip()):
            raise agent_error(done.returncode, done.stderr, words[0])
        return json.loads(done.stdout) if done.stdout.strip() else None

    def line(self, *words: str) -> list[str]:
        """The words of the command line; raises ``MissingPartError`` where the command is not installed."""
        program = Path(sys.executable).parent / _NAME
        if not program.is_file():
            raise MissingPartError(
                "is not installed", where=_NAME, hint="run: pip install 'edgepack[agent]' in the same environment"
            )
        verb, *rest = words
        return [str(program), "--state-dir", str(self.folder), "--runtime", self.runtime, verb, *rest]

    def environment(self) -> dict[str, str]:
        """The environment without what would change the command's own flags."""
        return {name: value for name, value in os.environ.items() if not name.startswith("EDGEPACK_")}


def agent_error(code: int, said: str, verb: str, where: object | None = None) -> EdgepackError:
    """The error of ``edge-agent VERB``, which ended with ``code`` and wrote ``said`` to its standard error."""
    lines = [line for line in said.strip().splitlines() if line.startswith(f"{_NAME}: ")]
    text = lines[-1].removeprefix(f"{_NAME}: ") if lines else f"{_NAME} {verb} ended with code {code}"
    return _KINDS.get(code, RuntimeFailedError)(text, where=where)
