"""A program on a terminal of some width: what it wrote, and what its screen shows in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.running import SECONDS

_CONTROL = re.compile(r"\x1b\[(?P<number>\??\d*)(?P<letter>[A-Za-z])")


@dataclass
class Screen:
    """Lines, and where the cursor is: as much of a terminal as bars use (ECMA-48)."""

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    shows_cursor: bool = True
    widest: int = 0

    def take(self, text: str) -> None:
        at = 0
        while at < len(text):
            if (found := _CONTROL.match(text, at)) is not None:
                self._control(found["letter"], found["number"])
                at = found.end()
                continue
            self._letter(text[at])
            at += 1

    @property
    def text(self) -> str:
        """What is shown, without empty lines at its end."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")

    def _control(self, letter: str, number: str) -> None:
        if number == "?25":
            self.shows_cursor = letter == "h"
        elif letter == "A":
            self.row = max(0, self.row - int(number or 1))
        elif letter == "K":
            self.lines[self.row] = "" if number == "2" else self.lines[self.row][: self.column]

    def _letter(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif letter >= " ":
            if self.column == self.columns:
                self.column = 0
                self._letter("\n")
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1
            self.widest = max(self.widest, self.column)


@dataclass(frozen=True)
class Shown:
    """How a program ended (its exit code, negative: the signal), all that it wrote, and its screen at the end."""

    code: int
    wrote: str
    screen: Screen


def on_terminal(
    argv: Sequence[object],
    columns: int,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    type_when: Callable[[str], str] = lambda wrote: "",
) -> Shown:
    """Run a program to its end; ``type_when`` is what is typed, once each, when that much was written."""
    child, terminal = pty.fork()
    if child == 0:
        try:
            os.chdir(cwd or Path.cwd())
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
            # The terminal says how wide it is, and not the one that the tests are run on.
            inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            environment = {**inherited, "TERM": "xterm", **(env or {})}
            os.execve(str(argv[0]), list(map(str, argv)), environment)  # noqa: S606
        finally:
            os._exit(127)
    data, typed, deadline = b"", "", time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            data += piece
            if (answer := type_when(data.decode(errors="replace"))) and answer != typed:
                typed = answer
                os.write(terminal, answer.encode())
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    screen = Screen(columns)
    screen.take(data.decode())
    return Shown(os.waitstatus_to_exitcode(status), data.decode(), screen)
