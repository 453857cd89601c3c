"""Counters and histograms of the server, written as Prometheus' text format."""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from edge_server.telemetry import exposition
from edge_server.telemetry.cells import Cells, share
from edge_server.telemetry.processes import usage

# Upper bounds of the buckets, in seconds: from a small model's run to a client's patience.
LATENCY = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
RUN_TIME = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)
REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ROWS = (1, 4, 16, 64, 256, 1024, 4096, 16384)

# A histogram's cells are a count for each bound, one for what is above all of them, and the sum.
_LATENCY_SUM = len(LATENCY) + 1
_RUN_TIME_SUM = len(RUN_TIME) + 1
_REQUESTS_SUM = len(REQUESTS) + 1
_ROWS_SUM = len(ROWS) + 1

# Methods come from clients and statuses from scripts: any that is not listed counts as "other".
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_STATUSES = range(100, 600)

_REJECTIONS = ("queue_full", "queue_timeout", "unauthorized", "forbidden", "bad_http")
_EXITS = ("crash", "timeout", "exit")

# Kind, help and label names of counters and gauges, by name.
_NUMBERS = {
    "edgepack_model_evictions_total": ("counter", "Models unloaded to make room for others.", ("model", "version")),
    "edgepack_rejections_total": ("counter", "Requests refused before scoring.", ("reason",)),
    "edgepack_scoring_timeouts_total": ("counter", "Calls that exceeded their time limit.", ()),
    "edgepack_worker_exits_total": ("counter", "Workers of the entry script that ended.", ("reason",)),
}
# Help and bounds of the histograms of models, by name.
_RUNS = {
    "edgepack_model_run_seconds": ("Time of one run of a model.", RUN_TIME),
    "edgepack_model_run_requests": ("Requests joined in one run.", REQUESTS),
    "edgepack_model_run_rows": ("Rows of one run.", ROWS),
}
_REQUEST = "request"
_LOAD = "load"
_GAUGE = "gauge"

_Found = dict[tuple[str, ...], list[float]]


class Metrics:
    """Everything that /metrics shows. An observation takes far less than a microsecond; any thread may call.

    Processes that share ``memory`` (made by ``cells.share`` before they fork) are numbered by ``process`` from 0,
    and any of them shows the sums. ``info`` are the labels of ``edgepack_build_info``, such as the version.
    """

    def __init__(
        self, memory: mmap.mmap | None = None, process: int = 0, info: Mapping[str, str] | None = None
    ) -> None:
        self._cells = Cells(share(1) if memory is None else memory, process)
        self._values = self._cells.values
        self._info = dict(info or {})
        self._requests: dict[tuple[str, str, int], int] = {}
        self._runs: dict[str, tuple[int, int, int]] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        # A counter that appears with its first event hides that event from rate().
        for reason in _REJECTIONS:
            self._number("edgepack_rejections_total", reason)
        for reason in _EXITS:
            self._number("edgepack_worker_exits_total", reason)
        self._number("edgepack_scoring_timeouts_total")

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One answered request; ``route`` is the route's name, never the path that a client chose."""
        first = self._requests.get((route, method, status))
        if first is None:
            first = self._request(route, method, status)
        values = self._values
        values[first + bisect_left(LATENCY, seconds)] += 1.0
        values[first + _LATENCY_SUM] += seconds

    def observe_run(self, model: str, seconds: float, rows: int, requests: int) -> None:
        """One run of a model (``name:version``): its time, its rows (0: unknown), and how many requests it joined."""
        cells = self._runs.get(model)
        if cells is None:
            cells = self._run(model)
        values = self._values
        times, joined, sizes = cells
        values[times + bisect_left(RUN_TIME, seconds)] += 1.0
        values[times + _RUN_TIME_SUM] += seconds
        values[joined + bisect_left(REQUESTS, requests)] += 1.0
        values[joined + _REQUESTS_SUM] += requests
        if rows:
            values[sizes + bisect_left(ROWS, rows)] += 1.0
            values[sizes + _ROWS_SUM] += rows

    def observe_load(self, model: str, seconds: float, failed: bool) -> None:
        """One load of a model."""
        first = self._cells.open(_key(_LOAD, *_named(model), "failed" if failed else "loaded"), 2)
        self._values[first] += 1.0
        self._values[first + 1] += seconds

    def count_eviction(self, model: str) -> None:
        """A model was unloaded to make room for others."""
        self._values[self._number("edgepack_model_evictions_total", *_named(model))] += 1.0

    def count_rejection(self, reason: str) -> None:
        """A request refused before scoring: ``queue_full``, ``queue_timeout``, ``unauthorized`` and so on."""
        self._values[self._number("edgepack_rejections_total", reason)] += 1.0

    def count_timeout(self) -> None:
        """A call that ran longer than it may."""
        self._values[self._number("edgepack_scoring_timeouts_total")] += 1.0

    def count_worker_exit(self, reason: str) -> None:
        """A worker of the entry script ended: ``crash``, ``timeout``, ``exit``."""
        self._values[self._number("edgepack_worker_exits_total", reason)] += 1.0

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Show a value that is read when /metrics is requested, such as ``edgepack_queue_length``."""
        self._gauges[name] = (help_text, read)

    def publish(self) -> None:
        """Write the gauges where other processes read them; only needed where there are several processes."""
        for name, (_, read) in self._gauges.items():
            self._values[self._cells.open(_key(_GAUGE, name), 1)] = read()

    def render(self) -> bytes:
        """All of it in Prometheus' text exposition format, version 0.0.4."""
        self.publish()
        sums: dict[str, _Found] = defaultdict(dict)
        for process, key, cells in self._cells.read():
            family, *labels = key.split("\0")
            if family == _GAUGE:
                labels.append(str(process))
            _add(sums[family], tuple(labels), cells)
        parts = [*self._render_requests(sums[_REQUEST]), *self._render_models(sums), *self._render_numbers(sums)]
        parts += self._render_gauges(sums[_GAUGE])
        parts += self._render_process()
        return "".join(parts).encode()

    def _request(self, route: str, method: str, status: int) -> int:
        known = method in _METHODS and status in _STATUSES
        shown = method if method in _METHODS else "other"
        code = str(status) if status in _STATUSES else "other"
        first = self._cells.open(_key(_REQUEST, route or "unknown", shown, code), _LATENCY_SUM + 1)
        # A client's own word is not kept, or clients could fill the memory.
        if known:
            self._requests[route, method, status] = first
        return first

    def _run(self, model: str) -> tuple[int, int, int]:
        times, joined, sizes = (
            self._cells.open(_key(name, *_named(model)), len(bounds) + 2) for name, (_, bounds) in _RUNS.items()
        )
        self._runs[model] = times, joined, sizes
        return self._runs[model]

    def _number(self, family: str, *labels: str) -> int:
        return self._cells.open(_key(family, *labels), 1)

    def _render_requests(self, found: _Found) -> Iterator[str]:
        name = "edgepack_http_requests_total"
        yield exposition.family(name, "counter", "Requests that were answered.")
        routes: _Found = {}
        for labels, cells in found.items():
            yield exposition.sample(name, zip(("route", "method", "code"), labels, strict=True), sum(cells[:-1]))
            _add(routes, labels[:1], cells)
        name = "edgepack_http_request_duration_seconds"
        yield exposition.family(name, "histogram", "Time from a request's head to its answer.")
        for (route,), cells in routes.items():
            yield exposition.histogram(name, [("route", route)], LATENCY, cells)

    def _render_models(self, sums: Mapping[str, _Found]) -> Iterator[str]:
        for name, (help_text, bounds) in _RUNS.items():
            yield exposition.family(name, "histogram", help_text)
            for (model, version), cells in sums.get(name, {}).items():
                yield exposition.histogram(name, [("model", model), ("version", version)], bounds, cells)
        name = "edgepack_model_load_seconds"
        yield exposition.family(name, "summary", "Loads of models and their time.")
        for labels, (count, seconds) in sums.get(_LOAD, {}).items():
            pairs = list(zip(("model", "version", "result"), labels, strict=True))
            yield exposition.sample(f"{name}_count", pairs, count)
            yield exposition.sample(f"{name}_sum", pairs, seconds)

    def _render_numbers(self, sums: Mapping[str, _Found]) -> Iterator[str]:
        for name, (kind, help_text, names) in _NUMBERS.items():
            yield exposition.family(name, kind, help_text)
            for labels, cells in sums.get(name, {}).items():
                yield exposition.sample(name, zip(names, labels, strict=True), cells[0])

    def _render_gauges(self, found: _Found) -> Iterator[str]:
        for name, (help_text, _) in self._gauges.items():
            yield exposition.family(name, "gauge", help_text)
            for (gauge, process), cells in found.items():
                if gauge == name:
                    labels = [("process", process)] if self._cells.processes > 1 else []
                    yield exposition.sample(name, labels, cells[0])

    def _render_process(self) -> Iterator[str]:
        yield exposition.family("edgepack_build_info", "gauge", "Version of the running server; always 1.")
        yield exposition.sample("edgepack_build_info", self._info.items(), 1)
        used = usage(self._cells.maker)
        for name, kind, help_text, value in (
            ("edgepack_processes", "gauge", "The server's processes, workers among them.", used.processes),
            ("process_cpu_seconds_total", "counter", "CPU time of all of them.", used.cpu_seconds),
            ("process_resident_memory_bytes", "gauge", "Resident memory of all of them.", used.resident_bytes),
            ("process_open_fds", "gauge", "Open file descriptors of all of them.", used.open_files),
            ("process_threads", "gauge", "Threads of all of them.", used.threads),
            ("process_start_time_seconds", "gauge", "When the first of them started.", used.started),
        ):
            yield exposition.family(name, kind, help_text)
            yield exposition.sample(name, (), value)


def _key(*parts: str) -> str:
    return "\0".join(parts)


def _named(model: str) -> tuple[str, str]:
    name, _, version = model.rpartition(":")
    return name, version


def _add(sums: _Found, labels: tuple[str, ...], cells: list[float]) -> None:
    known = sums.get(labels)
    sums[labels] = cells if known is None else [a + b for a, b in zip(known, cells, strict=True)]
