"""The commands that a device has taken, in its database: the last serial, and which ones are not done yet."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.state.clock import Uptime
from edge_agent.state.file import DatabaseFile
from edge_agent.state.goals import Refusal
from edge_agent.state.rows import read_fact, write_fact
from edge_agent.state.wanted import raise_time
from edgepack.state.commands import Command

_SERIAL, _OPEN = "command", "open_commands"
# More are not under way at a time; of what is left by crashes the oldest is forgotten.
_MOST_OPEN = 100


@dataclass(frozen=True)
class Begun:
    """A command that was taken, and of which it is not on record how it ended."""

    id: str
    serial: int
    verb: str
    service: str | None


@dataclass(frozen=True)
class Taken:
    """What was taken so far: the greatest serial, and what is under way or was left in the middle."""

    serial: int = 0
    begun: tuple[Begun, ...] = ()


class CommandFile(DatabaseFile):
    """The part of ``StateFile`` about commands; every method is one transaction."""

    def take_command(self, judge: Callable[[Taken], Command | Refusal]) -> Command | Refusal:
        """Let the pure ``judge`` see what was taken, and record the command that it takes, with nothing in between.

        It is on record before it is done, so that it is done once at most. What is refused writes nothing.
        """
        with self._reading() as db:
            found = judge(_read(db))
        if isinstance(found, Refusal):
            return found
        with self._transaction() as db:
            taken = _read(db)
            found = judge(taken)
            if isinstance(found, Command):
                write_fact(db, _SERIAL, found.serial)
                _write_open(db, (*taken.begun, Begun(found.id, found.serial, found.verb, found.service)))
                raise_time(db, found.issued_at, Uptime.now())
        return found

    def command_done(self, serial: int) -> None:
        """Record that the command with this ``serial`` has ended, whatever came of it."""
        with self._transaction() as db:
            _write_open(db, tuple(one for one in _read(db).begun if one.serial != serial))

    def left_commands(self) -> tuple[Begun, ...]:
        """The commands in the middle of which the agent ended; nobody is told of them again."""
        with self._reading() as db:
            found = _read(db).begun
        if found:
            with self._transaction() as db:
                _write_open(db, ())
        return found


def _read(db: sqlite3.Connection) -> Taken:
    begun = json.loads(read_fact(db, _OPEN) or "[]")
    return Taken(int(read_fact(db, _SERIAL) or 0), tuple(Begun(*one) for one in begun))


def _write_open(db: sqlite3.Connection, begun: tuple[Begun, ...]) -> None:
    write_fact(db, _OPEN, json.dumps([[one.id, one.serial, one.verb, one.service] for one in begun[-_MOST_OPEN:]]))
