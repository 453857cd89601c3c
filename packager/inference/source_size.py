"""How large a source directory is: one that holds a home folder, or data and models, is told apart from code."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.limits import LIMITS
from edgepack.oci.layer import LayerEntry
from edgepack.text import human
from packager.layers.ignore import IGNORE_FILE

_log = logging.getLogger(__name__)
_SHOWN = 3


@dataclass
class SourceSize:
    """Adds up what is shipped of ``folder``."""

    folder: Path
    files: int = 0
    total: int = 0
    _inside: Counter[str] = field(default_factory=Counter)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, entry: LayerEntry) -> None:
        """Count ``entry``; raises ``UsageError`` for more files than code has, as soon as there are so many."""
        if entry.kind != "file":
            return
        self.files += 1
        self.total += entry.size
        name = _first(entry.path)
        self._inside[name] += entry.size
        self._counts[name] += 1
        if self.files > LIMITS.source_files:
            most = ", ".join(f"{name} ({count})" for name, count in self._counts.most_common(_SHOWN))
            raise self._refusal(f"ships more than {LIMITS.source_files} files, most of them in {most}")

    def check(self) -> None:
        """Raise ``UsageError`` where it is more than code is; of what is merely large, say so."""
        largest = ", ".join(f"{name} ({human(size)})" for name, size in self._inside.most_common(_SHOWN))
        said = f"ships {human(self.total)}, the most of it in {largest}"
        if self.total > LIMITS.source_bytes:
            raise self._refusal(said)
        if self._is_home():
            _log.warning("%s: is your home folder; it %s; %s", self.folder, said, _HINT)
        elif self.total > LIMITS.large_source_bytes:
            _log.warning("%s: %s; %s", self.folder, said, _HINT)

    def _refusal(self, what: str) -> UsageError:
        home = "is your home folder, and " if self._is_home() else ""
        return UsageError(f"{home}{what}", where=self.folder, hint=_HINT)

    def _is_home(self) -> bool:
        return os.path.realpath(self.folder) == os.path.realpath(os.path.expanduser("~"))  # noqa: PTH111 - never fails


_HINT = f"give a folder with the code alone, register models, or list what is not needed in {IGNORE_FILE}"


def _first(path: str) -> str:
    """The file or folder of the source directory that ``path``, which begins with the directory's name, is in."""
    parts = path.split("/", 2)
    return f"{parts[1]}/" if len(parts) > 2 else parts[-1]
