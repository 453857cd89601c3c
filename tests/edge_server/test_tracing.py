"""Trace context by the standard's letter, and spans as a collector receives them."""

from __future__ import annotations

import gzip
import http.server
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.config.values import Identity
from edge_server.http.messages import Request, Response, Route
from edge_server.http.tracing import trace_of
from edge_server.telemetry.spans import Spans, open_spans
from tests.edge_server.support.server import Server
from tests.support.http_client import ask

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()


def state_of(*values: bytes) -> str:
    """What is kept of these tracestate headers."""
    trace = trace_of([(b"traceparent", PARENT), *((b"tracestate", value) for value in values)])
    assert trace is not None
    return trace.state


def test_a_traceparent_gives_its_ids() -> None:
    trace = trace_of([(b"accept", b"*/*"), (b"traceparent", PARENT)])
    assert trace is not None
    assert (trace.trace_id, trace.span_id, trace.flags, trace.state) == (TRACE, SPAN, 1, "")
    assert trace.parent == PARENT


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        PARENT.upper(),
        PARENT + b"-",
        PARENT + b"-more",
        PARENT + b"\n",
        PARENT[:-1],
        b"0" + PARENT,
        f"00-{TRACE[:-1]}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN[:-1]}g-01".encode(),
        f"cc-{TRACE}-{SPAN}-01.x".encode(),
        f"cc-{TRACE}-{SPAN}-010".encode(),
        PARENT.replace(b"-", b"_"),
    ],
)
def test_a_broken_traceparent_is_none(value: bytes) -> None:
    assert trace_of([(b"traceparent", value)]) is None


@pytest.mark.parametrize(
    "value", [f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-", f"fe-{TRACE}-{SPAN}-ff-what-ever"]
)
def test_later_versions_are_read_as_far_as_we_know_them(value: str) -> None:
    trace = trace_of([(b"traceparent", value.encode())])
    assert trace is not None
    assert (trace.trace_id, trace.span_id) == (TRACE, SPAN)
    assert trace.parent == PARENT  # flags that we do not know are not passed on


def test_no_traceparent_or_two_of_them_are_none() -> None:
    assert trace_of([]) is None
    assert trace_of([(b"tracestate", b"a=1")]) is None
    assert trace_of([(b"traceparent", PARENT), (b"traceparent", PARENT)]) is None


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ([b"a=1", b"b=2"], "a=1,b=2"),
        ([b" a=1 ,\tb=2 ,, "], "a=1,b=2"),
        ([b"0tenant@vendor=x y"], "0tenant@vendor=x y"),
        ([b""], ""),
        ([b"a=1,a=2"], ""),
        ([b"A=1"], ""),
        ([b"0a=1"], ""),
        ([b"a=b=c"], ""),
        ([b"a="], ""),
        ([b"a"], ""),
        ([b"t@0v=1"], ""),
        ([b"a=\xc3\xa9"], ""),
        ([b",".join(b"k%d=1" % number for number in range(32))], ",".join(f"k{number}=1" for number in range(32))),
        ([b",".join(b"k%d=1" % number for number in range(33))], ""),
    ],
)
def test_a_broken_tracestate_is_left_out_alone(values: list[bytes], kept: str) -> None:
    assert state_of(*values) == kept


ids = st.binary(min_size=16, max_size=16).filter(any).map(bytes.hex)


@given(trace=ids, span=ids.map(lambda text: text[:16]).filter(lambda text: text.strip("0")), flags=st.integers(0, 255))
def test_what_is_well_formed_is_read(trace: str, span: str, flags: int) -> None:
    found = trace_of([(b"traceparent", f"00-{trace}-{span}-{flags:02x}".encode())])
    assert found is not None
    assert (found.trace_id, found.span_id, found.flags) == (trace, span, flags)


@given(parent=st.binary(max_size=80), state=st.lists(st.binary(max_size=600), max_size=3))
def test_nothing_that_is_sent_breaks_the_reader(parent: bytes, state: list[bytes]) -> None:
    headers = [(b"tracestate", value) for value in state]
    assert trace_of([(b"traceparent", parent), *headers]) is None
    kept = trace_of([(b"traceparent", PARENT), *headers])
    assert kept is not None
    assert state_of(kept.state.encode()) == kept.state


class Collector:
    """An OTLP/HTTP receiver on loopback that decodes what it gets."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        collector = self
        self.requests: list[Any] = []
        self.paths: list[str] = []
        self.arrived = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                message = ExportTraceServiceRequest()
                message.ParseFromString(body)
                collector.requests.append(message)
                collector.paths.append(self.path)
                collector.arrived.set()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    @property
    def resource(self) -> dict[str, str]:
        """Attributes of what sent the first request."""
        return attributes(self.requests[0].resource_spans[0].resource)

    @property
    def spans(self) -> list[Any]:
        """All spans so far."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def attributes(message: Any) -> dict[str, Any]:
    """Attributes of a span or resource as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in message.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A running receiver."""
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def spans(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Spans]]:
    """Spans that go to the receiver."""
    opened: list[Spans] = []

    def opener(**environ: str) -> Spans:
        for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **environ}.items():
            monkeypatch.setenv(name, value)
        made = open_spans({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **environ}, Identity("iris", "3"), "http")
        assert made is not None
        opened.append(made)
        return made

    yield opener
    for made in opened:
        made.close()


def request(*headers: tuple[bytes, bytes]) -> Request:
    """A request to /score."""
    made = Request("POST", "/score?key=hunter2", "/score", "key=hunter2", list(headers), b"12345", "10.0.0.7")
    made.request_id = "the-id"
    made.route = Route("/score", {})
    return made


def test_a_request_becomes_a_server_span_of_its_callers_trace(
    collector: Collector, spans: Callable[..., Spans]
) -> None:
    opened = spans()
    asked = request((b"traceparent", PARENT), (b"tracestate", b"a=1"), (b"accept", b"*/*"))
    opened.begin(asked)
    opened.end(asked, Response(200, b"[1]", exec_ms=0.5))
    opened.close()
    assert collector.paths == ["/v1/traces"]
    assert collector.resource["service.name"] == "iris"
    assert collector.resource["service.version"] == "3"
    (span,) = collector.spans
    assert span.name == "POST /score"
    assert span.kind == span.SPAN_KIND_SERVER
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert span.trace_state == "a=1"
    assert span.end_time_unix_nano > span.start_time_unix_nano > (time.time() - 600) * 1e9
    assert span.status.code == span.status.STATUS_CODE_UNSET
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/score",
        "http.response.status_code": 200,
        "http.request.body.size": 5,
        "http.response.body.size": 3,
        "url.path": "/score",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "client.address": "10.0.0.7",
        "edgepack.request_id": "the-id",
        "edgepack.exec_ms": 0.5,
    }
    # What reads the headers from then on is a child of this span.
    assert asked.header(b"traceparent") == f"00-{TRACE}-{span.span_id.hex()}-01".encode()
    assert asked.header(b"tracestate") == b"a=1"
    assert asked.header(b"accept") == b"*/*"
    assert asked.trace is not None
    assert asked.trace.span_id == span.span_id.hex()


def test_a_request_without_a_trace_begins_one(collector: Collector, spans: Callable[..., Spans]) -> None:
    opened = spans()
    asked = request((b"traceparent", b"broken"), (b"tracestate", b"a=1"))
    asked.method, asked.route = "BREW", None
    opened.begin(asked)
    opened.end(asked, Response(500, b""))
    opened.close()
    (span,) = collector.spans
    assert span.name == "_OTHER"
    assert span.parent_span_id == b""
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert attributes(span)["error.type"] == "500"
    assert asked.header(b"traceparent") == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01".encode()
    assert asked.header(b"tracestate") is None


def test_a_caller_that_does_not_sample_is_followed(collector: Collector, spans: Callable[..., Spans]) -> None:
    opened = spans()
    asked = request((b"traceparent", PARENT[:-1] + b"0"))
    opened.begin(asked)
    opened.end(asked, Response(200, b""))
    opened.close()
    assert collector.requests == []
    passed = asked.header(b"traceparent")
    assert passed is not None
    assert passed.startswith(f"00-{TRACE}-".encode())
    assert passed.endswith(b"-00")


def test_the_environment_may_name_the_service(collector: Collector, spans: Callable[..., Spans]) -> None:
    opened = spans(OTEL_SERVICE_NAME="theirs", OTEL_RESOURCE_ATTRIBUTES="site=plant-7")
    asked = request()
    opened.begin(asked)
    opened.end(asked, Response(200, b""))
    opened.close()
    assert collector.resource["service.name"] == "theirs"
    assert collector.resource["site"] == "plant-7"


def test_a_request_that_was_refused_before_it_began_ends_no_span(spans: Callable[..., Spans]) -> None:
    spans().end(request(), Response(400, b""))


def test_a_collector_that_is_away_does_not_hold_the_end(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{free_port()}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "60",
    }
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    opened = open_spans(environ, Identity(), "http")
    assert opened is not None
    asked = request()
    opened.begin(asked)
    opened.end(asked, Response(200, b""))
    began = time.monotonic()
    opened.close(1.0)
    assert time.monotonic() - began < 50  # of the 60 s for which it would try


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "TRUE"}, ""),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
    ],
)
def test_spans_are_off_unless_they_can_be_had(
    environ: dict[str, str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_spans(environ, Identity(), "http") is None
    assert (told in caplog.text) if told else not caplog.records


def test_a_missing_extra_is_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with caplog.at_level(logging.WARNING):
        assert open_spans({"OTEL_TRACES_EXPORTER": "otlp"}, Identity(), "http") is None
    assert "edgepack[otel]" in caplog.text


SCRIPT = """
def init():
    pass

def run(data, request_headers):
    return request_headers.get("traceparent", request_headers.get("Traceparent"))
"""


def test_a_script_continues_the_servers_span(
    collector: Collector, tmp_path: Path, start: Callable[..., Server]
) -> None:
    (tmp_path / "score.py").write_text(SCRIPT)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    server = start("--entry-script", tmp_path / "score.py", "--port", "0", env=environ)
    status, _, body = ask(server.port, "POST", "/score", b"{}", {"traceparent": PARENT.decode()})
    assert status == 200
    assert collector.arrived.wait(60)
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert json.loads(body) == f"00-{TRACE}-{span.span_id.hex()}-01"


def test_spans_that_are_waiting_are_sent_at_the_end(
    collector: Collector, converted: Path, start: Callable[..., Server]
) -> None:
    environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces"}
    server = start("--model", converted / "model.onnx", "--port", "0", env=environ)
    assert ask(server.port, "POST", "/score", b"{}").status == 400
    assert server.stop() == 0
    (span,) = collector.spans
    assert attributes(span)["http.response.status_code"] == 400
    assert attributes(span)["http.route"] == "/score"


def test_without_spans_a_script_sees_the_callers_own_header(tmp_path: Path, start: Callable[..., Server]) -> None:
    (tmp_path / "score.py").write_text(SCRIPT)
    server = start("--entry-script", tmp_path / "score.py", "--port", "0")
    status, _, body = ask(server.port, "POST", "/score", b"{}", {"traceparent": PARENT.decode()})
    assert (status, json.loads(body)) == (200, PARENT.decode())
