"""How much of an image is here while its blobs come, side by side and some of them twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from edge_agent.sources.base import OnProgress
from edgepack.oci.digest import Digest


class Seen:
    """Tells ``on_progress`` how many of ``total`` bytes are here: first ``whole``, and ``parts`` of other blobs.

    ``on_advance`` hears when there are more than ever before.
    """

    def __init__(
        self,
        total: int,
        whole: int,
        parts: Mapping[Digest, int],
        on_progress: OnProgress,
        on_advance: Callable[[], None],
    ) -> None:
        self._total = total
        self._here = self._most = whole + sum(parts.values())
        self._on_progress = on_progress
        self._on_advance = on_advance
        self._lock = threading.Lock()
        self._parts = dict(parts)
        on_progress(self._here, total)

    def at(self, digest: Digest, position: int) -> None:
        """So many bytes of a blob are here now; fewer than before where it is read again."""
        with self._lock:
            self._here += position - self._parts.get(digest, 0)
            self._parts[digest] = position
            if self._here > self._most:
                self._most = self._here
                self._on_advance()
            self._on_progress(self._here, self._total)
