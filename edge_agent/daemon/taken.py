"""What the inbox folders have given already, over starts of the agent: what is still there is not taken again."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from edgepack.host.files import set_mode
from edgepack.limits import LIMITS

# Below the folder ``state``.
FILE = "inbox.json"
# A bundle begins with the signed list of all that is in it; of a document this is all.
_HEAD_BYTES = LIMITS.desired_state_bytes

Entry = list[object]


class Taken:
    """The files that were taken for ``receivers``, kept in ``folder``; nothing depends on it.

    A file is the same one by its path, length, time and beginning: what tells a file of a stick from another one is
    new with each boot. With ``anew`` nothing counts that was taken before.
    """

    def __init__(self, folder: Path, receivers: Sequence[str], *, anew: bool = False) -> None:
        self._path = folder / FILE
        self._receivers = list(receivers)
        self._entries: dict[str, Entry] = {} if anew else self._read()
        self._lock = threading.Lock()  # the thread that looks reads what the one that judges writes
        self._changed = False

    def has(self, path: Path) -> bool:
        """Whether the file at ``path`` was taken, and is the same one."""
        with self._lock:
            known = self._entries.get(str(path))
        return known is not None and known == _entry(path, known)

    def add(self, path: Path) -> None:
        """The file at ``path`` was taken."""
        entry = _entry(path)
        with self._lock:
            if entry is not None:
                self._entries[str(path)] = entry
                self._changed = True

    def keep(self, paths: Collection[Path]) -> None:
        """Forget all files but ``paths``, and write down what has changed; that may have to wait for a disk."""
        here = {str(path) for path in paths}
        with self._lock:
            left = {path: entry for path, entry in self._entries.items() if path in here}
            changed, self._changed = self._changed or len(left) != len(self._entries), False
            self._entries = left
        if changed:
            self._write(left)

    def _read(self) -> dict[str, Entry]:
        try:
            found = json.loads(self._path.read_bytes())
            return dict(found["taken"]) if found["receivers"] == self._receivers else {}
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return {}

    def _write(self, entries: dict[str, Entry]) -> None:
        temporary = self._path.with_name(f"{FILE}.tmp")
        with suppress(OSError):  # of a full disk: it is taken once more after the next start
            temporary.write_text(json.dumps({"receivers": self._receivers, "taken": entries}))
            set_mode(temporary, 0o600)
            temporary.replace(self._path)


def _entry(path: Path, like: Entry | None = None) -> Entry | None:
    """What the file at ``path`` is known by; with ``like`` its beginning is not read when the rest differs."""
    try:
        with path.open("rb") as file:
            stat = path.stat()
            found: Entry = [stat.st_size, stat.st_mtime_ns]
            if like is not None and like[:2] != found:
                return None
            return [*found, hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()]
    except OSError:
        return None
