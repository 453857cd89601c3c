"""Documents and bundles that came and are not judged yet: one at a time, the newest document of each place only."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgepack.oci.digest import Digest

# Something is wrong with whoever sends more than this before any of it was judged.
_MOST = 1000


@dataclass(frozen=True)
class Came:
    """Something to judge: a document that came with its ``data``, or the bundle or document at ``path``.

    ``where`` names it in messages; a later one from the same place replaces it. ``scope`` is that of the topic by
    which it came, ``None`` for a file, which says itself whom it is for. ``done`` is called once it was judged, and
    that is on record.
    """

    where: str
    scope: str | None = None
    kind: Literal["bundle", "document"] = "document"
    data: bytes | None = None
    path: Path | None = None
    done: Callable[[], None] = field(default=lambda: None, compare=False)

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
        if came.data is not None:
            if taken:
                self._taken[came.where] = Digest.of(came.data)
            else:
                self._taken.pop(came.where, None)
        came.done()
