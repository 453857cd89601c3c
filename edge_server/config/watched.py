"""Values read from files, and read again when the files change."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from edge_server.errors import ScoringError

# The shortest time between two checks of a file; a check is one system call for each file.
LOOK_SECONDS = 1.0

Clock = Callable[[], float]
Stamp = tuple[int, int, int] | None

_log = logging.getLogger(__name__)


class Material(Protocol):
    """What was read, and from which files."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that it was read from."""


Read = TypeVar("Read", bound=Material)


class Watched(Generic[Read]):
    """Something read from files, in ``value``. ``reload_if_changed`` reads them again; ``current`` calls it at most
    once in ``seconds``.

    When files cannot be read or break their rules, the former value stays in use; the error is logged once, and again
    only when the files change again. Raises what ``read`` raises (ScoringError) when it is made.
    """

    def __init__(
        self, what: str, read: Callable[[], Read], clock: Clock = time.time, seconds: float = LOOK_SECONDS
    ) -> None:
        self._what = what
        self._read = read
        self._clock = clock
        self._seconds = seconds
        self.value = read()
        self._stamps = _stamps(self.value.files)
        self._looked = clock()

    def current(self, now: float) -> Read:
        """The current value; ``now`` is the time of the clock that this was made with."""
        # A clock that was set back must not stop the checks.
        if not 0 <= now - self._looked < self._seconds:
            self._looked = now
            self.reload_if_changed()
        return self.value

    def reload_if_changed(self) -> None:
        """Read the files again if they changed since they were last read. Never raises."""
        stamps = _stamps(self.value.files)
        if stamps == self._stamps:
            return
        # Taken before reading, so that what changes meanwhile is read at the next check.
        self._stamps = stamps
        try:
            self.value = self._read()
        except ScoringError as error:
            _log.error("the %s was not reloaded: %s", self._what, error)
            return
        _log.info("the %s was reloaded", self._what)


def warn_if_open(path: Path, what: str) -> None:
    """Log a warning when every user of the machine can read or change the file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & 0o006:
        _log.warning("the %s %s is open to all users of this machine; chmod 600 it", what, path)


def _stamps(files: tuple[Path, ...]) -> tuple[Stamp, ...]:
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    # The inode shows a file that was replaced by a rename, whatever its time.
    return found.st_mtime_ns, found.st_ino, found.st_size
