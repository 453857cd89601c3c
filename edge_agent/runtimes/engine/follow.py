"""What a service's containers write, one container after the other."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from typing import Any

from edge_agent.runtimes.engine.api import Engine
from edge_agent.runtimes.engine.errors import CallError

_AGAIN_SECONDS = 0.5


def follow(engine: Engine, name: str, lines: int) -> Iterator[str]:
    """The last ``lines`` lines of the container ``name``, and then what it and its successors write; never ends.

    While the engine does not answer, or has no such container, it is asked again and again.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    seen: object = None
    broken = 0.0
    ask: dict[str, Any] = {"tail": max(0, lines)}  # of the first only its end, of those that come after it everything
    while True:
        try:
            container = engine.container(name)
            if container is None:
                seen = seen or ()  # what comes after it is there from its beginning
            else:
                run = (container.id, container.state.get("StartedAt"))
                if run != seen or container.state.get("Status") == "running":
                    if seen is not None:
                        ask = {"tail": "all"} if run != seen else {"since": broken}
                    seen = run
                    # However long it is silent.
                    for data in engine.logs(container.id, timeout=None, follow="true", **ask):
                        yield decoder.decode(data)
        except CallError:
            pass
        broken = time.time()
        time.sleep(_AGAIN_SECONDS)
