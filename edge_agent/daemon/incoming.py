"""Documents and bundles that came and are not judged yet: one at a time, the newest document of each place only."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest

# Something is wrong with whoever sends more than this before any of it was judged.
_MOST = 1000
# What was refused is kept up to this length, to be judged again; what is longer comes with the next connection.
_KEPT_BYTES = LIMITS.kept_refused_bytes


@dataclass(frozen=True)
class Came:
    """Something to judge: a document that came with its ``data``, or the bundle or document at ``path``.

    ``where`` names it in messages; a later one from the same place replaces it. ``scope`` is that of the topic by
    which it came, ``None`` for a file, which says itself whom it is for. ``done`` is called once it was judged, and
    that is on record, and before that ``taken`` or ``failed``.
    """

    where: str
    scope: str | None = None
    kind: Literal["bundle", "document"] = "document"
    data: bytes | None = None
    path: Path | None = None
    done: Callable[[], None] = field(default=lambda: None, compare=False)
    taken: Callable[[], None] = field(default=lambda: None, compare=False)
    failed: Callable[[], None] = field(default=lambda: None, compare=False)

    @property
    def verb(self) -> str:
        """The job that judges it."""
        return "accept" if self.kind == "document" else "import"

    def given(self) -> dict[str, Any]:
        """What the job is told on its input."""
        found: dict[str, Any] = {"where": self.where, "scope": self.scope}
        if self.data is not None:
            found["data"] = base64.b64encode(self.data).decode()
        if self.path is not None:
            found["path"] = str(self.path)
        return found


class Queue:
    """What came, in the order of its coming."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Came] = OrderedDict()
        self._taken: dict[str, Digest] = {}
        self._refused: dict[str, Came] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, came: Came) -> None:
        """Take ``came``, which replaces what came from the same place and was not judged yet.

        A document that was taken before is done at once: a broker sends it again with every connection.
        """
        if came.data is not None and self._taken.get(came.where) == Digest.of(came.data):
            came.done()
            return
        older = self._waiting.pop(came.where, None)
        if older is not None:
            older.done()
        self._waiting[came.where] = came
        if len(self._waiting) > _MOST:
            self._waiting.popitem(last=False)[1].done()

    def next(self) -> Came | None:
        """The next to judge."""
        return self._waiting.popitem(last=False)[1] if self._waiting else None

    def judged(self, came: Came, *, taken: bool) -> None:
        """``came`` was judged, and that is on record."""
        self._taken.pop(came.where, None)
        self._refused.pop(came.where, None)
        if taken and came.data is not None:
            self._taken[came.where] = Digest.of(came.data)
        if not taken and came.data is not None and len(came.data) <= _KEPT_BYTES:
            self._refused[came.where] = replace(came, done=lambda: None)
        if taken:
            came.taken()
        else:
            came.failed()
        came.done()

    def retry(self) -> None:
        """Judge again what was refused: another key is trusted now."""
        for came in [*self._refused.values()]:
            if came.where not in self._waiting:
                self.put(came)
