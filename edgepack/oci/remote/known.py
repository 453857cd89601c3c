"""In which repositories of a registry blobs were seen: one that is there already is mounted, and not sent again."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from edgepack.oci.digest import Digest

# Of how many blobs it is known, and how many repositories of each: the newest.
_MOST_BLOBS = 1024
_MOST_REPOSITORIES = 3


class KnownBlobs:
    """The repositories of one registry that blobs were seen in, the newest last; for several threads.

    It may be wrong: a registry that has a blob no more takes it as if nothing was known.
    """

    def __init__(self, found: Mapping[str, Sequence[str]] | None = None) -> None:
        self._found = {digest: list(repositories) for digest, repositories in (found or {}).items()}
        self._lock = threading.Lock()
        self.noted: dict[str, str] = {}
        """What was seen since it was made: digests, and the repository of each."""

    def repositories(self, digest: Digest) -> tuple[str, ...]:
        """Where the blob was seen, the newest first."""
        with self._lock:
            return tuple(reversed(self._found.get(str(digest), ())))

    def note(self, digest: Digest, repository: str) -> None:
        """The blob is in ``repository``."""
        with self._lock:
            self.noted[str(digest)] = repository
            _put(self._found, str(digest), repository)

    def to_json(self) -> dict[str, list[str]]:
        """What a later one is made of."""
        with self._lock:
            return dict(list(self._found.items())[-_MOST_BLOBS:])


def _put(found: dict[str, list[str]], digest: str, repository: str) -> None:
    known = [one for one in found.pop(digest, ()) if one != repository]
    found[digest] = [*known, repository][-_MOST_REPOSITORIES:]
