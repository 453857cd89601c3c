"""What is read from files and read again when they change, while the server runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from edge_server.errors import ScoringError

# How often a file is looked at, at the most: a look is one system call for each file.
LOOK_SECONDS = 1.0

Clock = Callable[[], float]
Stamp = tuple[int, int, int] | None

_log = logging.getLogger(__name__)


class Material(Protocol):
    """What was read, and from where."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that it was read from."""


Read = TypeVar("Read", bound=Material)


class Watched(Generic[Read]):
    """Something read from files, in ``value``. ``reload_if_changed`` reads them again; ``current`` calls it by
    itself, at most once in ``seconds``.

    Files that cannot be read or break their rules leave what was there in use: the error is logged once, and again
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
        """What the files say; ``now`` is the time of the clock that this was made with."""
        # A clock that was set back must not stop the looking.
        if not 0 <= now - self._looked < self._seconds:
            self._looked = now
            self.reload_if_changed()
        return self.value

    def reload_if_changed(self) -> None:
        """Read the files again if they changed since they were last read. Never raises."""
        stamps = _stamps(self.value.files)
        if stamps == self._stamps:
            return
        # Those from before the reading: what changes meanwhile, or is another file now, is read at the next look.
        self._stamps = stamps
        try:
            self.value = self._read()
        except ScoringError as error:
            _log.error("the %s stays as it was: %s", self._what, error)
            return
        _log.info("the %s was read again", self._what)


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
    # The inode tells a file that was replaced by a rename, whatever its time says.
    return found.st_mtime_ns, found.st_ino, found.st_size
