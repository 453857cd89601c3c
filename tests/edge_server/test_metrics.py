"""What /metrics shows: by a real parser, over several processes, whatever clients write."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_server import __version__
from edge_server.telemetry import cells
from edge_server.telemetry.cells import Cells, share
from edge_server.telemetry.exposition import number, sample
from edge_server.telemetry.metrics import LATENCY, Metrics
from edge_server.telemetry.processes import usage
from tests.edge_server.support.instructions import instructions
from tests.edge_server.support.server import Server

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def samples(metrics: Metrics) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the page by name and labels, as Prometheus' own parser reads it; no name comes twice."""
    found = {}
    families = list(text_string_to_metric_families(metrics.render().decode()))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    for family in families:
        assert family.type != "unknown"
        assert family.documentation
        for line in family.samples:
            key = (line.name, frozenset(line.labels.items()))
            assert key not in found
            found[key] = line.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """One sample."""
    return samples(metrics)[name, frozenset(labels.items())]


def test_requests_are_counted_by_route_method_and_code() -> None:
    metrics = Metrics()
    for status in (200, 200, 503):
        metrics.observe_request("/score", "POST", status, 0.001)
    name = "edgepack_http_requests_total"
    assert value(metrics, name, route="/score", method="POST", code="200") == 2
    assert value(metrics, name, route="/score", method="POST", code="503") == 1


def test_latency_is_a_histogram_over_all_codes_of_a_route() -> None:
    metrics = Metrics()
    metrics.observe_request("/score", "POST", 200, 0.0001)  # a bound belongs to its bucket
    metrics.observe_request("/score", "POST", 400, 0.3)
    metrics.observe_request("/score", "GET", 200, 100.0)
    name = "edgepack_http_request_duration_seconds"
    found = samples(metrics)
    buckets = [
        (float(dict(labels)["le"]), count) for (line, labels), count in found.items() if line == f"{name}_bucket"
    ]
    assert [bound for bound, _ in sorted(buckets)] == [*LATENCY, float("inf")]
    counts = dict(buckets)
    assert (counts[0.0001], counts[0.25], counts[0.5], counts[60.0], counts[float("inf")]) == (1, 1, 2, 2, 3)
    assert value(metrics, f"{name}_count", route="/score") == 3
    assert value(metrics, f"{name}_sum", route="/score") == pytest.approx(100.3001)


def test_runs_are_told_by_model_with_joined_requests_and_rows() -> None:
    metrics = Metrics()
    metrics.observe_run("iris:2", 0.002, rows=30, requests=3)
    metrics.observe_run("iris:2", 0.002, rows=0, requests=1)
    model = {"model": "iris", "version": "2"}
    assert value(metrics, "edgepack_model_run_seconds_count", **model) == 2
    assert value(metrics, "edgepack_model_run_requests_sum", **model) == 4
    assert value(metrics, "edgepack_model_run_rows_count", **model) == 1
    assert value(metrics, "edgepack_model_run_rows_bucket", **model, le="64") == 1
    assert value(metrics, "edgepack_model_run_rows_bucket", **model, le="16") == 0


def test_events_are_counted() -> None:
    metrics = Metrics()
    metrics.observe_load("iris:1", 0.25, failed=False)
    metrics.observe_load("iris:1", 0.5, failed=True)
    metrics.count_eviction("iris:1")
    metrics.count_rejection("queue_full")
    metrics.count_timeout()
    metrics.count_worker_exit("crash")
    model = {"model": "iris", "version": "1"}
    assert value(metrics, "edgepack_model_load_seconds_sum", **model, result="loaded") == 0.25
    assert value(metrics, "edgepack_model_load_seconds_count", **model, result="failed") == 1
    assert value(metrics, "edgepack_model_evictions_total", **model) == 1
    assert value(metrics, "edgepack_rejections_total", reason="queue_full") == 1
    assert value(metrics, "edgepack_scoring_timeouts_total") == 1
    assert value(metrics, "edgepack_worker_exits_total", reason="crash") == 1


def test_events_that_may_come_are_shown_before_they_do() -> None:
    metrics = Metrics()
    assert value(metrics, "edgepack_rejections_total", reason="unauthorized") == 0
    assert value(metrics, "edgepack_scoring_timeouts_total") == 0


def test_gauges_are_read_when_asked() -> None:
    waiting = [1]
    metrics = Metrics(info={"version": '1.0 "beta"'})
    metrics.gauge("edgepack_queue_length", "Requests that\nwait \\ here.", lambda: waiting[0])
    assert value(metrics, "edgepack_queue_length") == 1
    waiting[0] = 7
    assert value(metrics, "edgepack_queue_length") == 7
    assert value(metrics, "edgepack_build_info", version='1.0 "beta"') == 1


def test_labels_are_escaped() -> None:
    metrics = Metrics()
    metrics.observe_run('we"ird\\name\n{}:1', 0.1, 1, 1)
    assert value(metrics, "edgepack_model_run_seconds_count", model='we"ird\\name\n{}', version="1") == 1


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (3.0, "3"),
        (0.1, "0.1"),
        (1e-05, "1e-05"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers_are_written_as_the_format_asks(given: float, written: str) -> None:
    assert number(given) == written
    parsed = next(iter(text_string_to_metric_families(sample("x", (), given)))).samples[0].value
    assert parsed == given or parsed != parsed


def test_clients_cannot_grow_the_page() -> None:
    metrics = Metrics()
    metrics.observe_request("", "OTHER", 404, 0.001)
    metrics.observe_request("", "GET", 999, 0.001)
    before = len(samples(metrics))
    for number_ in range(2000):
        metrics.observe_request("", f"M{number_}", 404, 0.001)
        metrics.observe_request("", "GET", 1000 + number_, 0.001)
    assert len(samples(metrics)) == before
    assert len(metrics._requests) == 0
    assert value(metrics, "edgepack_http_requests_total", route="unknown", method="other", code="404") == 2001
    assert value(metrics, "edgepack_http_requests_total", route="unknown", method="GET", code="other") == 2001


def test_more_series_than_there_is_room_for_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "REGION_BYTES", 16 * 1024)
    metrics = Metrics(share(2), 0)
    neighbour = Metrics(metrics._cells._memory, 1)
    for number_ in range(200):
        metrics.observe_run(f"model-{number_}:1", 0.1, 1, 1)
    shown = [labels for name, labels in samples(neighbour) if name == "edgepack_model_run_seconds_count"]
    assert 5 < len(shown) < 100
    assert value(neighbour, "edgepack_scoring_timeouts_total") == 0


def test_any_process_shows_the_sum_of_all() -> None:
    memory = share(2)
    child = os.fork()
    if child == 0:
        try:
            other = Metrics(memory, 1)
            other.observe_request("/score", "POST", 200, 0.001)
            other.observe_request("/score", "POST", 200, 0.001)
            other.gauge("edgepack_queue_length", "Waiting.", lambda: 5)
            other.publish()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    metrics = Metrics(memory, 0)
    metrics.gauge("edgepack_queue_length", "Waiting.", lambda: 1)
    metrics.observe_request("/score", "POST", 200, 0.001)
    name = "edgepack_http_requests_total"
    assert value(metrics, name, route="/score", method="POST", code="200") == 3
    assert value(metrics, "edgepack_http_request_duration_seconds_count", route="/score") == 3
    assert value(metrics, "edgepack_queue_length", process="0") == 1
    assert value(metrics, "edgepack_queue_length", process="1") == 5
    # A process in the place of the one that died goes on counting where it ended.
    successor = Metrics(memory, 1)
    successor.observe_request("/score", "POST", 200, 0.001)
    assert value(metrics, name, route="/score", method="POST", code="200") == 4


def test_counts_from_many_threads_are_all_there() -> None:
    metrics = Metrics()

    def count() -> None:
        for _ in range(20_000):
            metrics.observe_request("/score", "POST", 200, 0.001)

    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(old)
    assert value(metrics, "edgepack_http_requests_total", route="/score", method="POST", code="200") == 80_000


def test_what_is_read_while_another_process_writes_is_whole() -> None:
    memory = share(2)
    child = os.fork()
    if child == 0:
        try:
            writer = Cells(memory, 1)
            for number_ in range(5000):
                writer.values[writer.open(f"key-{number_}", 1)] = 1.0
        finally:
            os._exit(0)
    reader = Cells(memory, 0)
    keys: list[str] = []
    while len(keys) < 5000:
        keys = [key for _, key, _ in reader.read()]
        assert keys == [f"key-{number_}" for number_ in range(len(keys))]
    os.waitpid(child, 0)


def test_the_process_tells_of_itself_and_its_children() -> None:
    metrics = Metrics()
    alone = usage(os.getpid())
    child = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        assert value(metrics, "edgepack_processes") == alone.processes + 1
        assert value(metrics, "process_resident_memory_bytes") > alone.resident_bytes
        assert value(metrics, "process_cpu_seconds_total") >= alone.cpu_seconds
        assert abs(value(metrics, "process_start_time_seconds") - time.time()) < 3600
        assert value(metrics, "process_open_fds") > 3
        assert value(metrics, "process_threads") >= 2
    finally:
        child.communicate(b"\n")
    assert usage(child.pid).processes == 0


def test_observing_takes_a_few_steps() -> None:
    metrics = Metrics()
    assert instructions(lambda: metrics.observe_request("/score", "POST", 200, 0.002)) < 80


def test_a_server_shows_what_it_has_done(converted: Path, start: Callable[..., Server]) -> None:
    server = start("--model", converted / "model.onnx", "--port", "0")
    assert server.score({"data": [[1, 2, 3, 4]] * 3})[0] == 200
    assert server.score({"data": "none"})[0] == 400
    assert server.request("GET", "/nothing")[0] == 404
    status, headers, body = server.request("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = {
        (line.name, *sorted(line.labels.values())): line.value
        for family in text_string_to_metric_families(body.decode())
        for line in family.samples
    }
    assert found["edgepack_http_requests_total", "/score", "200", "POST"] == 1
    assert found["edgepack_http_requests_total", "/score", "400", "POST"] == 1
    assert found["edgepack_http_requests_total", "404", "GET", "unknown"] == 1
    named = [converted.parent.name, converted.name]  # <name>/<version>
    assert found["edgepack_model_run_rows_sum", *sorted(named)] == 3
    assert found["edgepack_model_load_seconds_count", *sorted(["loaded", *named])] == 1
    assert found["process_resident_memory_bytes",] > 10_000_000
    assert found["edgepack_build_info", __version__] == 1


def test_the_reference_page_names_every_metric_and_no_other(
    converted: Path, start: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text("def init(): ...\ndef run(data):\n    return data\n")
    model = {"name": "iris", "version": 1, "path": str(converted), "file": "model.onnx"}
    more = {"host": "127.0.0.1", "port": 0, "runtime": {"memory_bytes": 1 << 30}}
    (tmp_path / "service.json").write_text(json.dumps({"schema": "edgepack.service/v1", "models": [model], **more}))
    shown = set()
    for arguments in (
        ("--config", tmp_path / "service.json"),
        ("--entry-script", tmp_path / "score.py", "--port", "0"),
    ):
        server = start(*arguments)
        assert server.score({"data": [[1, 2, 3, 4]]})[0] == 200
        page = server.request("GET", "/metrics")[2].decode()
        shown |= set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    phrase = PAGE.read_text()
    rows = [line.split("|")[1] for line in phrase.splitlines() if line.startswith("| `")]
    # Counted when a model leaves, which none does here.
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == shown | {"edgepack_model_evictions_total"}
