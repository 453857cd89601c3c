"""What a service's containers write, one container after the other."""

from __future__ import annotations

import codecs
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from edge_agent.runtimes.engine.api import Engine
from edge_agent.runtimes.engine.errors import CallError

_AGAIN_SECONDS = 0.5
# Two streams of one container are written down in another order than they are stamped, by less than this.
_DISORDER_SECONDS = 0.01
# As many entries as may come within that time.
_KEPT = 4096


class _Log:
    """How far the log of one container has been read."""

    def __init__(self, container: str, tail: int | str) -> None:
        self.container = container
        self.complete = False
        self._query: Mapping[str, object] = {"tail": tail}
        self._given: dict[tuple[str, bytes], int] = {}
        self._again: Counter[tuple[str, bytes]] = Counter()

    def query(self) -> Mapping[str, object]:
        """Which entries to ask for; those that come are noted as of a stream of its own."""
        self._again.clear()
        return self._query

    def is_new(self, stamp: str, data: bytes) -> bool:
        """Take note of an entry; whether it was not given before. Podman's stamps are whole seconds."""
        entry = (stamp, data)
        self._again[entry] += 1
        if self._again[entry] <= self._given.get(entry, 0):
            return False
        self._given[entry] = self._again[entry]
        if len(self._given) > _KEPT:
            oldest = next(iter(self._given))
            del self._given[oldest], self._again[oldest]
        self._query = {"since": datetime.fromisoformat(stamp).timestamp() - _DISORDER_SECONDS}
        return True


def follow(engine: Engine, name: str, lines: int) -> Iterator[str]:
    """The last ``lines`` lines of the container ``name``, and then what it and its successors write; never ends.

    While the engine does not answer, or has no such container, it is asked again and again. A log is asked for once
    more after its container's end: an engine may end a stream before the last entries.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    tail: int | str = max(0, lines)  # of the first only its end, of those that come after it everything
    log: _Log | None = None
    while True:
        try:
            container = engine.container(name)
            if container is None or container.state.get("Status") == "created":
                tail = "all"
            else:
                if log is None or container.id != log.container:
                    log, tail = _Log(container.id, tail), "all"
                if not log.complete:
                    # However long it is silent.
                    for stamp, data in engine.stamped_logs(container.id, timeout=None, follow="true", **log.query()):
                        if log.is_new(stamp, data):
                            yield decoder.decode(data)
                    log.complete = not container.state.get("Running")
        except CallError:
            pass
        time.sleep(_AGAIN_SECONDS)
