"""Answers that come piece by piece: AMLResponse of a generator, from the script to the client's socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until

CODE = """
import json, os, time
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init():
    pass

def note(text):
    with open("notes", "a") as file:
        file.write(text + chr(10))

def gated(names):
    # Each piece after the first waits until its file is there: the client has seen those before.
    try:
        for name in names:
            while name != names[0] and not os.path.exists(name):
                time.sleep(0.002)
            yield f"data: {{name}}\\n\\n"
    finally:
        note("gated closed")

def endless():
    size = 0
    try:
        while True:
            size += 65536
            with open("made", "w") as file:
                file.write(str(size))
            yield b"x" * 65536
    finally:
        note("endless closed")

def failing(after):
    for number in range(after):
        yield str(number)
    raise RuntimeError("in the middle")

def slow():
    yield "first"
    time.sleep(60)
    yield "never"

PIECES = {{
    "gated": lambda: gated(["a", "b", "c"]), "endless": endless, "fails": lambda: failing(2),
    "fails at once": lambda: failing(0), "nothing": lambda: iter(()), "slow": slow,
    "mixed": lambda: iter(["é", b"", bytearray(b"-"), memoryview(b"x"), ""]), "wrong": lambda: iter(["a", 5]),
    "many": lambda: (str(n) + "," for n in range(50_000)),
}}

{prefix}def answer(request):
    kind = request.args.get("kind", "plain")
    if kind == "plain":
        return AMLResponse(str(os.getpid()), 200)
    headers = {{"Content-Type": "text/event-stream", "Content-Length": "7", "X-Own": "1"}}
    pieces = PIECES[kind]()
    return AMLResponse({wrap}, int(request.args.get("status", 200)), headers)

{async_pieces}
run = rawhttp(answer)
"""
ASYNC = """
async def each(pieces):
    try:
        for piece in pieces:
            yield piece
            import asyncio
            await asyncio.sleep(0)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
"""
FORMS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "one thread": ({"prefix": "", "wrap": "pieces", "async_pieces": ""}, {}),
    "threads": ({"prefix": "", "wrap": "pieces", "async_pieces": ""}, {"threads": 2}),
    "async": ({"prefix": "async ", "wrap": "each(pieces)", "async_pieces": ASYNC}, {}),
    "async over a generator": ({"prefix": "async ", "wrap": "pieces", "async_pieces": ""}, {}),
}


class Streaming:
    """A service that streams, and its folder."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def ask(self, kind: str, method: str = "POST", **query: int) -> tuple[http.client.HTTPConnection, Any]:
        """Ask for an answer; return the connection and the response, of which nothing was read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        target = f"/score?kind={kind.replace(' ', '%20')}" + "".join(
            f"&{name}={value}" for name, value in query.items()
        )
        connection.request(method, target, b"")
        return connection, connection.getresponse()

    def whole(self, kind: str) -> tuple[int, bytes]:
        """Ask, and read all of the answer."""
        connection, response = self.ask(kind)
        body = response.read()
        connection.close()
        return response.status, body

    def notes(self) -> str:
        """What the script has noted."""
        file = self.folder / "notes"
        return file.read_text() if file.exists() else ""


@pytest.fixture(scope="module", params=list(FORMS))
def streaming(
    request: pytest.FixtureRequest, start_for_module: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Streaming:
    words, options = FORMS[request.param]
    folder = tmp_path_factory.mktemp("streams")
    (folder / "score.py").write_text(CODE.format(**words))
    document = {
        "schema": "edgepack.service/v1", "host": "127.0.0.1", "port": 0, "models": [], "root": str(folder),
        "entry_script": {"file": "score.py", **options}, "limits": {"scoring_seconds": 3, "request_seconds": 2},
    }  # fmt: skip
    (folder / "service.json").write_text(json.dumps(document))
    return Streaming(start_for_module("--config", folder / "service.json"), folder)


def test_each_piece_is_seen_as_it_comes(streaming: Streaming) -> None:
    for name in "abc":
        (streaming.folder / name).unlink(missing_ok=True)
    connection, response = streaming.ask("gated")
    assert (response.status, response.headers["transfer-encoding"]) == (200, "chunked")
    assert (response.headers["content-type"], response.headers["x-own"]) == ("text/event-stream", "1")
    assert "content-length" not in response.headers
    assert float(response.headers["x-ms-run-fn-exec-ms"]) >= 0
    for name in "abc":
        (streaming.folder / name).touch()
        assert response.read1(100) == f"data: {name}\n\n".encode()
    assert response.read() == b""
    # The connection stays, and the worker takes the next call.
    connection.request("POST", "/score", b"")
    assert connection.getresponse().read().isdigit()
    connection.close()


def test_pieces_are_text_or_bytes_and_may_be_empty_or_none_at_all(streaming: Streaming) -> None:
    assert streaming.whole("mixed") == (200, "é-x".encode())
    assert streaming.whole("nothing") == (200, b"")
    assert streaming.whole("many") == (200, b"".join(b"%d," % n for n in range(50_000)))


def test_a_failure_before_the_first_piece_is_a_failed_run_and_a_later_one_ends_the_connection(
    streaming: Streaming,
) -> None:
    connection, response = streaming.ask("fails at once")
    assert (response.status, response.headers["x-ms-run-function-failed"]) == (500, "True")
    connection.close()
    for kind, before in (("fails", b"01"), ("wrong", b"a")):
        connection, response = streaming.ask(kind)
        assert response.status == 200
        with pytest.raises(http.client.IncompleteRead) as error:
            response.read()
        assert error.value.partial == before
        connection.close()
    wait_until(lambda: any("in the middle" in line for line in list(streaming.server.lines)))
    assert streaming.whole("plain")[0] == 200


def test_a_slow_client_holds_the_generator_back_and_one_that_leaves_ends_it(streaming: Streaming) -> None:
    made = streaming.folder / "made"
    connection, response = streaming.ask("endless")
    assert response.read(10) == b"x" * 10
    # What the sockets hold, and the window, is made; then nothing more, for longer than it took.
    size = -1
    while (now := int(made.read_text() or 0)) != size:
        size = now
        time.sleep(0.3)
    assert size < 32 << 20
    before = streaming.notes().count("endless closed")
    assert response.read(1 << 20)
    connection.sock.close()
    response.close()
    wait_until(lambda: streaming.notes().count("endless closed") > before)
    assert streaming.whole("plain")[0] == 200


def test_a_client_that_does_not_read_at_all_is_cut_off(streaming: Streaming) -> None:
    before = streaming.notes().count("endless closed")
    connection, _ = streaming.ask("endless")
    wait_until(lambda: streaming.notes().count("endless closed") > before)
    connection.close()
    assert streaming.whole("plain")[0] == 200


def test_a_piece_that_takes_too_long_ends_the_connection(streaming: Streaming) -> None:
    if streaming.folder.joinpath("score.py").read_text().count("async def answer") == 1:
        pytest.skip("time.sleep() in an event loop holds up all its calls")
    connection, response = streaming.ask("slow")
    assert response.read1(100) == b"first"
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    connection.close()
    assert streaming.whole("plain")[0] == 200


def test_who_wants_no_body_gets_none(streaming: Streaming) -> None:
    for method, status in (("HEAD", 200), ("POST", 204)):
        before = streaming.notes().count("endless closed")
        connection, response = streaming.ask("endless", method, status=status)
        assert (response.status, response.read()) == (status, b"")
        assert "transfer-encoding" not in response.headers
        connection.request("POST", "/score", b"")
        assert connection.getresponse().status == 200
        connection.close()
        wait_until(lambda before=before: streaming.notes().count("endless closed") > before)


def test_a_client_of_http_1_0_gets_the_pieces_as_they_are(streaming: Streaming) -> None:
    with socket.create_connection(("127.0.0.1", streaming.server.port), timeout=60) as client:
        client.sendall(b"GET /score?kind=mixed HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        received = b""
        while part := client.recv(1 << 16):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    assert body == "é-x".encode()


def test_requests_that_were_sent_ahead_wait_for_the_last_piece(streaming: Streaming) -> None:
    with socket.create_connection(("127.0.0.1", streaming.server.port), timeout=60) as client:
        one = b"GET /score?kind=mixed HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(one + one + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while part := client.recv(1 << 16):
            received += part
    assert received.count(b"HTTP/1.1 200 OK") == received.count(b"\r\n0\r\n\r\n") == 3
    assert received.endswith(b"1\r\nx\r\n0\r\n\r\n")
