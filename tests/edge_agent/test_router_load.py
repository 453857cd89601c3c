"""A router under load: shares are set, versions come and go, and no request fails. Real HAProxy."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent.traffic.process import RouterProcess
from edge_agent.traffic.router import Router, Version, buckets, write_buckets
from edgepack.state.endpoints import DesiredEndpoint
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real("haproxy")
LOOPBACK = "127.0.0.1"
SHARES = ((50, 50), (10, 90), (100, 0), (30, 70), (0, 100), (80, 20))


class _Answer(BaseHTTPRequestHandler):
    """Says which port it has, and keeps connections."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        text = str(self.connection.getsockname()[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing."""


class _Server(ThreadingHTTPServer):
    """Is silent of checks, whose connections the router resets."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing."""


@pytest.fixture
def places() -> Iterator[list[int]]:
    """The ports of three servers."""
    servers = [_Server((LOOPBACK, 0), _Answer) for _ in range(3)]
    for one in servers:
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield [one.server_address[1] for one in servers]
    for one in servers:
        one.shutdown()
        one.server_close()


class Load:
    """Callers that ask one after the other until they are told to end: half of them keep their connection."""

    def __init__(self, port: int) -> None:
        self.port, self.ended = port, threading.Event()
        self.statuses, self.failed = Counter[int](), list[str]()
        self._threads = [threading.Thread(target=self._ask, args=(at % 2 == 0,), daemon=True) for at in range(4)]
        for one in self._threads:
            one.start()

    def end(self) -> None:
        self.ended.set()
        for one in self._threads:
            one.join(30)

    def _ask(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=20)
        with closing(connection):
            while not self.ended.wait(0.004):
                try:
                    connection.request("GET", "/score", headers={} if keeps else {"Connection": "close"})
                    answer = connection.getresponse()
                    answer.read()
                    self.statuses[answer.status] += 1
                    if keeps and answer.will_close:
                        self.failed.append("a kept connection was closed")
                except (OSError, http.client.HTTPException) as error:
                    self.failed.append(repr(error))
                    connection.close()


def test_no_request_fails_and_no_connection_is_closed_while_shares_and_versions_change(
    places: list[int], tmp_path: Path
) -> None:
    first, second, third = (Version(f"churn-v{at}", LOOPBACK, port, 0) for at, port in enumerate(places, 1))
    process = RouterProcess(tmp_path / "router", "churn")
    made = Router(DesiredEndpoint("churn", free_port(), {"churn-v1": 100}, "churn-v1"), (replace(first, share=100),))
    process.write(made, write_buckets(buckets(made.shares)))
    process.start(made.structure)
    load = Load(made.endpoint.port)
    try:
        wait_until(lambda: sum(load.statuses.values()) > 40)

        def change(*versions: Version) -> None:
            router = replace(made, versions=versions)
            before = process.control.buckets()
            process.control.change(router, buckets(router.shares, before))
            # Some requests by what is now.
            count = sum(load.statuses.values())
            wait_until(lambda: sum(load.statuses.values()) > count + 20)

        for one, other in SHARES:
            change(replace(first, share=one), replace(second, share=other))
        for _ in range(3):  # one comes while the others answer, gets half of the requests, and goes again
            change(replace(first, share=25), replace(second, share=25), replace(third, share=50))
            change(replace(first, share=60), replace(second, share=40))
        change(replace(second, share=100))  # and the one that was first, too
        load.end()
        seen = process.control.seen()
    finally:
        load.end()
        process.stop()
    assert load.failed == []
    assert set(load.statuses) == {200}
    assert sum(load.statuses.values()) > 300
    assert [*seen] == ["churn-v2"]
