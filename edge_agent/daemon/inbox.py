"""Inbox folders: a stick that is put in, or files that somebody copies there, are taken when they no longer change.

In a folder, and in ``groups/<group>`` and ``devices/<device>`` below it, desired states are files that end in
``.json`` and say themselves whom they are for; a bundle is known by its first bytes. A folder need not be there, may
come and go at any time, and is only read. What was taken is remembered over starts of the agent.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.config.configuration import Configuration
from edge_agent.daemon.taken import Taken

_log = logging.getLogger(__name__)
# The name of a bundle's first file stands first in a tar (POSIX, pax, "ustar Interchange Format").
_BUNDLE = b"edgepack.bundle.json\0"
_LOOK_SECONDS = 1.0
# A folder with more is something else, such as the root of a file system.
_MOST_ENTRIES = 1000
# What could not be taken is tried again after this time, twice as long each time, up to the most.
_RETRY_SECONDS = 60.0
_MOST_RETRY_SECONDS = 3600.0

Mark = tuple[int, int, int, int]


@dataclass(frozen=True)
class Find:
    """A file to take."""

    path: Path
    kind: Literal["bundle", "document"]


class Inbox:
    """Looks into ``folders`` for what is for ``device`` and its ``groups``; ``before`` has what was taken before.

    What was taken counts for files that are there at the first look: one that is put in later is taken again.
    """

    def __init__(
        self, folders: Sequence[Path], device: str, groups: Sequence[str], before: Taken | None = None
    ) -> None:
        self._before = before
        self._is_first = True
        below = [".", f"devices/{device}", *(f"groups/{group}" for group in groups)]
        self._places = [folder / one for folder in folders for one in below]
        self._seen: dict[Path, Mark] = {}
        self._taken: dict[Path, Mark] = {}
        self._lock = threading.Lock()  # of what follows, which the thread that judges changes
        self._failed: dict[Path, tuple[float, float]] = {}  # when it is tried again, and the pause before that

    @classmethod
    def kept(cls, state: Path, one: Configuration, *, anew: bool) -> Inbox:
        """The inbox of a configuration, which remembers in the folder ``state`` what was taken.

        With ``anew`` nothing counts that was taken before: what a service lacks may be in it.
        """
        before = Taken(state, (one.device, *one.groups), anew=anew)
        return cls(one.inbox_folders, one.device, one.groups, before)

    def look(self) -> list[Find]:
        """What has come and was the same at the last look: bundles first, since documents name what is in them.

        A file that goes away and comes again, or changes, is found again. To be called from one thread, which may have
        to wait for a disk.
        """
        found: dict[Path, Mark] = {}
        ready: list[Find] = []
        again = self._due()
        for folder in self._places:
            for path, mark in _files(folder):
                found[path] = mark
                if self._is_first and self._before is not None and self._before.has(path):
                    self._taken[path] = mark
                if self._seen.get(path) == mark and (self._taken.get(path) != mark or path in again):
                    kind = _kind(path)
                    self._taken[path] = mark
                    if kind is not None:
                        ready.append(Find(path, kind))
        self._is_first = False
        if self._before is not None:
            self._before.keep(found)
        self._seen = found
        self._taken = {path: mark for path, mark in self._taken.items() if path in found}
        with self._lock:
            self._failed = {path: when for path, when in self._failed.items() if path in found}
        return sorted(ready, key=lambda one: (one.kind != "bundle", str(one.path)))

    def took(self, find: Find) -> None:
        """The file was taken, or is for another device."""
        if self._before is not None:
            self._before.add(find.path)

    def failed(self, find: Find) -> None:
        """The file could not be taken. A bundle is found again after a while: the disk may have had no space.

        A document is found again with ``retry``: it may be for another device, of which a stick may have many.
        """
        path = find.path
        with self._lock:
            if find.kind == "document":
                self._failed[path] = (float("inf"), _RETRY_SECONDS)
                return
            _, pause = self._failed.get(path, (0.0, _RETRY_SECONDS / 2))
            pause = min(2 * pause, _MOST_RETRY_SECONDS)
            self._failed[path] = (time.monotonic() + pause, pause)

    def retry(self) -> None:
        """Find everything again that could not be taken: another key is trusted now."""
        with self._lock:
            self._failed = {path: (0.0, pause) for path, (_, pause) in self._failed.items()}

    def _due(self) -> frozenset[Path]:
        with self._lock:
            due = frozenset(path for path, (when, _) in self._failed.items() if time.monotonic() >= when)
            for path in due:
                self._failed[path] = (float("inf"), self._failed[path][1])  # until it was judged again
        return due


def watch(inbox: Inbox, end: threading.Event, take: Callable[[Find], None]) -> None:
    """Look into the folders on a thread, which may have to wait for a stick, until ``end``."""

    def look() -> None:
        while not end.wait(_LOOK_SECONDS):
            for find in inbox.look():
                take(find)

    threading.Thread(target=look, name="inbox", daemon=True).start()


def _files(folder: Path) -> Iterator[tuple[Path, Mark]]:
    """The regular files of a folder and by what a change of them is seen; none of a folder that is not there."""
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(_MOST_ENTRIES), entries, strict=False):
                if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    yield Path(entry.path), (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # a stick that was pulled out, or may not be read
        _log.debug("%s cannot be read: %s", folder, error)


def _kind(path: Path) -> Literal["bundle", "document"] | None:
    if path.suffix == ".json":
        return "document"
    try:
        with path.open("rb") as file:
            return "bundle" if file.read(len(_BUNDLE)) == _BUNDLE else None
    except OSError:
        return None
