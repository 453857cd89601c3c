"""Which blobs of a store have been read and found whole, so that an import of what is here already reads nothing again.

A blob counts as long as its file is the same one by inode, length and times: whoever writes to it, moves or restores it
changes one of them. What a disk alters by itself is found by those who read: a start of a service, and ``verify``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress

from edgepack.errors import EdgepackError
from edgepack.host.files import atomic_write
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store

FILE = "checked.json"
Mark = list[int]


class CheckedBlobs:
    """Whether ``store`` has a blob, whole; each is read once, over all imports."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.root / FILE
        self._marks = self._read()
        self._known: dict[tuple[Digest, int], bool] = {}

    def __call__(self, blob: Descriptor) -> bool:
        """Whether the store has it; a damaged one is removed."""
        key = (blob.digest, blob.size)
        if key not in self._known:
            mark = self._mark(blob.digest)
            same = mark is not None and self._marks.get(blob.digest.hex) == mark and mark[0] == blob.size
            self._known[key] = same or self._store.check(blob)
        return self._known[key]

    def keep(self, blobs: Iterable[Descriptor]) -> None:
        """Note ``blobs``, which are whole now, and forget what is not in the store any more."""
        marks = {name: mark for name, mark in self._marks.items() if self._store.has_digest(Digest(name))}
        for blob in blobs:
            mark = self._mark(blob.digest)
            if mark is not None:
                marks[blob.digest.hex] = mark
        if marks != self._marks:
            with suppress(OSError, EdgepackError):  # of a full disk: they are read once more
                atomic_write(self._path, json.dumps(marks, sort_keys=True).encode())
            self._marks = marks

    def _mark(self, digest: Digest) -> Mark | None:
        try:
            found = self._store.path(digest).stat()
        except OSError:
            return None
        return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]

    def _read(self) -> dict[str, Mark]:
        try:
            found = json.loads(self._path.read_bytes())
            return {name: list(mark) for name, mark in found.items() if len(Digest.parse(f"sha256:{name}").hex) == 64}
        except (OSError, ValueError, TypeError, AttributeError, EdgepackError):
            return {}
