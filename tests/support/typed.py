"""Commands typed in this process: many mistakes take no longer than one start of Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import click
import pytest

from edgepack.host.console import report_errors


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The only line of an error, which the command's name begins."""
        assert self.out == ""
        (line,) = self.err.splitlines()
        return line.partition(": ")[2]


Type = Callable[..., Ended]


def typist(
    make: Callable[[], click.Command], name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Type:
    """A function that runs the command called ``name`` with the words that it is given."""

    def run(*words: object) -> Ended:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        code = report_errors(make(), name, "EDGEPACK")
        return Ended(code, *capfd.readouterr())

    return run
