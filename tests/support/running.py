"""Programs that tests run to their end: ours, Python's, other tools'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Only a program that hangs takes it, and a busy machine may need much of it.
SECONDS = 240.0


@dataclass(frozen=True)
class Done:
    """How a program ended: its exit code (negative: the signal), and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def finish(
    *argv: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    given: str = "",
    seconds: float = SECONDS,
    umask: int = -1,
) -> Done:
    """Run a program to its end, whatever that is.

    ``env`` is its whole environment (ours where there is none), ``given`` what it reads from standard input.
    """
    done = subprocess.run(
        list(map(str, argv)), env=env, cwd=cwd, input=given, capture_output=True, text=True, timeout=seconds,
        check=False, umask=umask,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def run(*argv: object, code: int = 0, more: Mapping[str, str] | None = None, **options: Any) -> str:
    """Run a program that must end with ``code``; what it printed.

    ``more`` is added to our environment; other options are those of ``finish``.
    """
    if more is not None:
        options["env"] = {**os.environ, **more}
    done = finish(*argv, **options)
    words = " ".join(map(str, argv))
    assert done.code == code, f"{words}: exit code {done.code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def python(program: str, *words: object, **options: Any) -> str:
    """What a program for this Python prints; options are those of ``run``."""
    return run(sys.executable, "-c", program, *words, **options)
