"""What a service's containers write, one container after the other."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from typing import Any

_AGAIN_SECONDS = 0.5


def follow(client: Any, name: str, lines: int) -> Iterator[str]:
    """The last ``lines`` lines of the container ``name``, and then what it and its successors write; never ends.

    While the engine does not answer, or has no such container, it is asked again and again.
    """
    import docker
    import requests

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    seen: object = None
    broken = 0.0
    ask: dict[str, Any] = {"tail": max(0, lines)}  # of the first only its end, of those that come after it everything
    while True:
        try:
            container = client.containers.get(name)
            run = (container.id, container.attrs["State"].get("StartedAt"))
            if run != seen or container.status == "running":
                if seen is not None:
                    ask = {"tail": "all"} if run != seen else {"since": broken}
                seen = run
                for data in _stream(container, ask):
                    yield decoder.decode(data)
        except docker.errors.NotFound:
            seen = seen or ()  # what comes after it is there from its beginning
        except (docker.errors.DockerException, requests.RequestException):
            pass
        broken = time.time()
        time.sleep(_AGAIN_SECONDS)


def _stream(container: Any, ask: dict[str, Any]) -> Iterator[bytes]:
    """What the container writes, however long it is silent."""
    api = container.client.api
    before, api.timeout = api.timeout, None
    try:
        found: Iterator[bytes] = container.logs(stream=True, follow=True, **ask)
    finally:
        api.timeout = before
    return found
