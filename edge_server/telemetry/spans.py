"""Spans for OpenTelemetry (OTLP over HTTP), where the environment asks for them and the extra is installed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_server.config.values import Identity
from edge_server.http.tracing import Trace, trace_of

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from edge_server.http.messages import Request, Response

# The only protocol that the extra supports; it is also the standard's default.
_PROTOCOL = "http/protobuf"
# Methods that the HTTP conventions name; any other is written as `_OTHER`.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"))
# A client may send a long path.
_PATH_CHARACTERS = 200

_log = logging.getLogger(__name__)


class Spans:
    """A server span for each request, sent in the background; spans that a stalled collector does not accept are
    dropped.

    Attributes are those of OpenTelemetry's HTTP conventions, without the query, which may hold inputs.
    """

    def __init__(self, identity: Identity, scheme: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, StatusCode

        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence over what is given here.
        known = Resource.create({"service.version": identity.version})
        if str(known.attributes["service.name"]).startswith("unknown_service"):
            known = known.merge(Resource({"service.name": identity.name}))
        self._provider = TracerProvider(resource=known, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("scoring")
        self._kind = SpanKind.SERVER
        self._error = StatusCode.ERROR
        self._scheme = scheme

    def begin(self, request: Request) -> None:
        """Start the request's span; code that reads ``request.headers`` from now on continues it."""
        caller = trace_of(request.headers)
        method = _method(request)
        attributes = {
            "http.request.method": method,
            "url.path": request.path[:_PATH_CHARACTERS],
            "url.scheme": self._scheme,
            "network.protocol.version": "1.1",
            "client.address": request.client,
        }
        span = self._tracer.start_span(method, _context(caller), self._kind, attributes)
        ids = span.get_span_context()
        state = "" if caller is None else caller.state
        trace = Trace(f"{ids.trace_id:032x}", f"{ids.span_id:016x}", ids.trace_flags, state, span)
        request.trace = trace
        headers = [header for header in request.headers if header[0] not in (b"traceparent", b"tracestate")]
        headers.append((b"traceparent", trace.parent))
        if state:
            headers.append((b"tracestate", state.encode()))
        request.headers = headers

    def end(self, request: Request, response: Response) -> None:
        """End the span that ``begin`` started, if it did."""
        if request.trace is None:
            return
        span = request.trace.span
        span.set_attribute("http.response.status_code", response.status)
        span.set_attribute("http.request.body.size", len(request.body))
        span.set_attribute("http.response.body.size", len(response.body))
        span.set_attribute("edgepack.request_id", request.request_id)
        if request.route is not None:
            span.set_attribute("http.route", request.route.name)
            span.update_name(f"{_method(request)} {request.route.name}")
        if response.exec_ms is not None:
            span.set_attribute("edgepack.exec_ms", response.exec_ms)
        if response.status >= 500:
            span.set_attribute("error.type", str(response.status))
            span.set_status(self._error)
        span.end()

    def close(self, seconds: float = 3.0) -> None:
        """Send what is left, for that long at most: an unreachable collector must not delay the end of the process."""
        sender = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        sender.start()
        sender.join(seconds)


def open_spans(environ: Mapping[str, str], identity: Identity, scheme: str) -> Spans | None:
    """Spans where OpenTelemetry's variables ask for them, else None; ``scheme`` is ``http`` or ``https``.

    Where they cannot be exported, a warning is logged and the service runs without traces.
    """
    if not _wanted(environ):
        return None
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if named not in (None, "", _PROTOCOL):
        _log.warning("traces are not exported: the protocol %.40r is not known, only %s", named, _PROTOCOL)
        return None
    try:
        return Spans(identity, scheme)
    except ImportError:
        _log.warning("traces are not exported: OpenTelemetry is not installed; install edgepack[otel] into the image")
        return None


def _wanted(environ: Mapping[str, str]) -> bool:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not named:
        return any(environ.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", "TRACES_"))
    exporters = {part.strip() for part in named.split(",")}
    if "otlp" not in exporters and exporters != {"none"}:
        _log.warning("traces are not exported: OTEL_TRACES_EXPORTER is %.40r, this server has otlp and none", named)
    return "otlp" in exporters


def _method(request: Request) -> str:
    return request.method if request.method in _METHODS else "_OTHER"


def _context(caller: Trace | None) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

    # Never the surrounding context, which does not belong to this request.
    if caller is None:
        return Context()
    ids = SpanContext(
        int(caller.trace_id, 16),
        int(caller.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(caller.flags),
        trace_state=TraceState.from_header([caller.state]) if caller.state else None,
    )
    return set_span_in_context(NonRecordingSpan(ids), Context())
