"""What a service wrote before it ended, for the error that says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from edgepack.errors import EdgepackError, RuntimeFailedError

_SHOWN = 20


class CrashedError(RuntimeFailedError):
    """A service that did not start. ``log`` are the last lines that it wrote: tracebacks as Python writes them."""

    def __init__(self, what: str, *, where: object | None = None, hint: str | None = None, log: str = "") -> None:
        self.log = log
        super().__init__(what, where=where, hint=hint)

    def __str__(self) -> str:
        return f"{self.sentence}\n{self.log}" if self.log else self.sentence

    @property
    def sentence(self) -> str:
        """The error without the log."""
        return super().__str__()


def crash_of(name: str, error: EdgepackError, log: str, began: datetime, *, goes_on: bool) -> EdgepackError:
    """``error``, by which the service called ``name`` did not start, with what it wrote since ``began``.

    ``goes_on`` says that what ran before runs again. Where its log has no traceback since then, it did not end by its
    script, and the error stays as it is.
    """
    found = list(_tracebacks(log, began))
    if not found:
        return error
    before = "what ran before goes on" if goes_on else "nothing runs"
    return CrashedError(
        "has crashed, did its init() fail?", where=f"service {name}",
        hint=f"{before}; its log: edgepack service logs {name}",
        log="\n".join(found[-1].rstrip().splitlines()[-_SHOWN:]),
    )  # fmt: skip


def _tracebacks(log: str, began: datetime) -> Iterator[str]:
    """Those in the lines of the server's log, which are JSON, since ``began``."""
    for line in log.splitlines():
        entry = _entry(line)
        if entry is None or not isinstance(entry.get("traceback"), str):
            continue
        try:
            moment = datetime.fromisoformat(entry.get("time", ""))
        except (TypeError, ValueError):
            continue
        if moment.tzinfo is not None and moment >= began:
            yield entry["traceback"]


def _entry(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
