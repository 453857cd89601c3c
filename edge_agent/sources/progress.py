"""How much of an image is here while its blobs come, side by side and some of them twice."""

from __future__ import annotations

import threading

from edge_agent.sources.base import OnProgress
from edgepack.oci.digest import Digest


class Seen:
    """Tells ``on_progress`` how many of ``total`` bytes are here: ``here`` of them from the start."""

    def __init__(self, total: int, here: int, on_progress: OnProgress) -> None:
        self._total = total
        self._here = here
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._parts: dict[Digest, int] = {}
        on_progress(here, total)

    def at(self, digest: Digest, position: int) -> None:
        """So many bytes of a blob are here now; fewer than before where it is read again."""
        with self._lock:
            self._here += position - self._parts.get(digest, 0)
            self._parts[digest] = position
            self._on_progress(self._here, self._total)
