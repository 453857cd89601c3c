"""Inbox folders: a stick that is put in, or files that somebody copies there, are taken when they no longer change.

In a folder, and in ``groups/<group>`` and ``devices/<device>`` below it, desired states are files that end in
``.json`` and say themselves whom they are for; a bundle is known by its first bytes. A folder need not be there, may
come and go at any time, and is only read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_log = logging.getLogger(__name__)
# The name of a bundle's first file stands first in a tar (POSIX, pax, "ustar Interchange Format").
_BUNDLE = b"edgepack.bundle.json\0"
# A folder with more is something else, such as the root of a file system.
_MOST_ENTRIES = 1000

Mark = tuple[int, int, int, int]


@dataclass(frozen=True)
class Find:
    """A file to take."""

    path: Path
    kind: Literal["bundle", "document"]


class Inbox:
    """Looks into ``folders`` for what is for ``device`` and its ``groups``."""

    def __init__(self, folders: Sequence[Path], device: str, groups: Sequence[str]) -> None:
        below = [".", f"devices/{device}", *(f"groups/{group}" for group in groups)]
        self._places = [folder / one for folder in folders for one in below]
        self._seen: dict[Path, Mark] = {}
        self._taken: dict[Path, Mark] = {}

    def look(self) -> list[Find]:
        """What has come and was the same at the last look: bundles first, since documents name what is in them.

        A file that goes away and comes again, or changes, is found again. To be called from one thread, which may have
        to wait for a disk.
        """
        found: dict[Path, Mark] = {}
        ready: list[Find] = []
        for folder in self._places:
            for path, mark in _files(folder):
                found[path] = mark
                if self._seen.get(path) == mark and self._taken.get(path) != mark:
                    kind = _kind(path)
                    self._taken[path] = mark
                    if kind is not None:
                        ready.append(Find(path, kind))
        self._seen = found
        self._taken = {path: mark for path, mark in self._taken.items() if path in found}
        return sorted(ready, key=lambda one: (one.kind != "bundle", str(one.path)))

    def again(self, path: Path) -> None:
        """Let the file be found again, which could not be taken and may change without a sign."""
        self._taken.pop(path, None)


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
