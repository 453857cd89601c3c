"""The probe of a container, as a program in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edge_server.probe import main
from tests.support.ports import free_port


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on loopback that answers each request with ``status``; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self.send_response(status if self.path == "/v2/health/live" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_it_succeeds_where_the_server_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200) as port:
        assert main([str(port)]) == 0
        monkeypatch.setenv("EDGEPACK_PORT", str(port))
        assert main([]) == 0
    with answering(503) as port:
        assert main([str(port)]) == 1


def test_it_fails_where_nothing_answers_or_tls_is_not_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([str(free_port())]) == 1
    monkeypatch.setenv("EDGEPACK_TLS_CERTIFICATE", "/c.pem")
    with answering(200) as port:
        assert main([str(port)]) == 1
