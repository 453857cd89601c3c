"""The queue of requests that wait for their run, and the answers to those that find it full."""

from __future__ import annotations

from edge_server.config.values import Limits
from edge_server.errors import BadRequest
from edge_server.http.messages import Response, message
from edge_server.telemetry.metrics import Metrics


class RunQueue:
    """How many requests of the whole service wait for their run, and the bound on them."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.count = 0
        metrics.gauge("edgepack_queue_length", "Requests that wait for their run.", lambda: float(self.count))

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        return self.count >= self.limits.queue

    def enter(self) -> None:
        """Count one more; BadRequest 503 where the queue is full."""
        if self.full:
            self.metrics.count_rejection("queue_full")
            raise BadRequest("too many requests are waiting; try again later", 503, [(b"retry-after", b"1")])
        self.count += 1

    def leave(self, count: int) -> None:
        """Count so many less."""
        self.count -= count

    def late(self) -> Response:
        """The answer to one that has waited too long."""
        self.metrics.count_rejection("queue_timeout")
        seconds = f"{self.limits.queue_seconds:g}"
        return message(503, f"the request waited longer than {seconds} seconds for its run", [(b"retry-after", b"1")])
