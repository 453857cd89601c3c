"""Counters and histograms of the server, written as Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable


class Metrics:
    """Everything that /metrics shows. Observing costs far less than a microsecond; all calls from any thread."""

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One answered request; `route` is the route's name, never the path that a client chose."""

    def observe_run(self, model: str, seconds: float, rows: int, requests: int) -> None:
        """One run of a model (`name:version`): how long, of how many rows (0: unknown), joined of how many requests."""

    def observe_load(self, model: str, seconds: float, failed: bool) -> None:
        """One load of a model."""

    def count_eviction(self, model: str) -> None:
        """A model left memory for others."""

    def count_rejection(self, reason: str) -> None:
        """A request refused before scoring: `queue_full`, `queue_timeout`, `unauthorized`, `forbidden`, `bad_http`."""

    def count_timeout(self) -> None:
        """A call that ran longer than it may."""

    def count_worker_exit(self, reason: str) -> None:
        """A worker of the entry script ended: `crash`, `timeout`, `exit`."""

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Show a value that is read when /metrics is asked, such as `edgepack_queue_length`."""

    def render(self) -> bytes:
        """All of it in Prometheus' text exposition format, version 0.0.4."""
        return b""
