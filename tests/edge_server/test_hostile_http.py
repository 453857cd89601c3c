"""Bytes that are no request, or a request meant to harm: each gets one answer of 4xx, and the server goes on."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.config.values import Limits
from edge_server.http.messages import Reply, Request, Response, message
from edge_server.http.server import HttpServer
from tests.support.http_client import listens
from tests.support.sampling import times
from tests.support.waiting import wait_until

HOST = b"Host: x\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
LIMITS = Limits(body_bytes=10_000, header_bytes=4096, connections=20, request_seconds=1.0, idle_seconds=1.0)


class Echo:
    """Answers with method, path and body; ``/later`` when it is told to, ``/big`` with many bytes."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.replies: list[Reply] = []

    def begin(self, request: Request) -> Response | None:
        return message(401, "no key") if request.path == "/guarded" else None

    def handle(self, request: Request) -> Response | Reply:
        self.seen.append(request)
        if request.path == "/later":
            self.replies.append(Reply())
            return self.replies[-1]
        if request.path == "/big":
            return Response(200, b"x" * 20_000_000)
        if request.path == "/headers":
            return Response(200, b"", headers=[(b"x-good", b"1"), (b"x-bad", b"a\r\nx-injected: 1"), (b"date", b"no")])
        return Response(200, f"{request.method} {request.path} ".encode() + request.body, b"text/plain")

    def finish(self, request: Request, response: Response) -> bytes:
        return b""

    def left(self, request: Request) -> None:
        pass

    def refused(self, response: Response, target: str) -> None:
        pass


class Running:
    """An HTTP server on a loop of its own thread."""

    def __init__(self, limits: Limits) -> None:
        self.app = Echo()
        self.server = HttpServer(self.app, limits)
        self.loop = asyncio.new_event_loop()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(listener), self.loop).result(60)

    def stop(self) -> bool:
        whole = asyncio.run_coroutine_threadsafe(self.server.drain(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)
        self.loop.close()
        return whole

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port))
        client.settimeout(60)
        return client

    def send(self, data: bytes, *, half: bool = False) -> bytes:
        """Everything that comes back until the server closes; ``half``: the client ends its side after sending."""
        with self.connect() as client:
            try:
                client.sendall(data)
                if half:
                    client.shutdown(socket.SHUT_WR)
                return read_all(client)
            except ConnectionResetError:
                return b"RESET"


def read_all(client: socket.socket) -> bytes:
    answer = b""
    while part := client.recv(1 << 20):
        answer += part
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@contextmanager
def running(limits: Limits) -> Iterator[Running]:
    server = Running(replace(limits, grace_seconds=0.2))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(LIMITS) as one:
        yield one


def post(*lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /a HTTP/" + version + b"\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLING = {
    "length and chunks": post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"),
    "chunks and length": post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"),
    "two lengths": post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "one length twice": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "a list of lengths": post(b"Content-Length: 5, 5", body=b"hello"),
    "a length with a sign": post(b"Content-Length: +5", body=b"hello"),
    "a negative length": post(b"Content-Length: -5", body=b"hello"),
    "a hexadecimal length": post(b"Content-Length: 0x5", body=b"hello"),
    "a length beyond 64 bits": post(b"Content-Length: 99999999999999999999999", body=b"hello"),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "a coding before chunked": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked before a coding": post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "a coding twice": post(CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "a space before the colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "a vertical tab in the coding": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "chunks of HTTP/1.0": post(CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n", version=b"1.0"),
    "a chunk size with a prefix": post(CHUNKED, body=b"0x2\r\nhi\r\n0\r\n\r\n"),
    "a chunk size that overflows": post(CHUNKED, body=b"fffffffffffffffff\r\nhi"),
    "a chunk size that is no number": post(CHUNKED, body=b"zz\r\nhi\r\n0\r\n\r\n"),
    "a chunk longer than it says": post(CHUNKED, body=b"2\r\nhiXX\r\n0\r\n\r\n"),
    "a chunk ended by a line feed": post(CHUNKED, body=b"2\nhi\r\n0\r\n\r\n"),
    "a length among the trailers": post(CHUNKED, body=b"2\r\nhi\r\n0\r\nContent-Length: 50\r\n\r\n"),
    "a folded header": post(b"X: a", b" b", b"Content-Length: 0"),
    "a folded first header": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "line feeds alone": b"POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi",
    "a carriage return alone": b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nA: \0b\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
    "a body to be another protocol's": post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 2", body=b"hi"),
}
NO_REQUESTS = {
    "another protocol's start": bytes.fromhex("16030100a5010000a10303") + b"\0" * 50,
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown version": b"GET / HTTP/3.0\r\n" + HOST + b"\r\n",
    "a version of two digits": b"GET / HTTP/1.10\r\n" + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "bytes beyond ASCII in the path": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "random bytes": bytes(range(128, 256)) * 4 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", [*SMUGGLING, *NO_REQUESTS])
def test_what_is_no_clear_request_gets_400_and_the_connection_ends(server: Running, name: str) -> None:
    before = len(server.app.seen)
    answer = server.send({**SMUGGLING, **NO_REQUESTS}[name] + GET)
    assert statuses(answer) == [400]
    assert b"connection: close" in answer
    assert b'{"message":"' in answer
    assert len(server.app.seen) == before, "the app saw a request"
    assert statuses(server.send(GET, half=True)) == [200]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post(b"Content-Length: 10001"), 413),
        (post(b"Content-Length: 10001", b"Expect: 100-continue"), 413),
        (post(b"Content-Length: 10001", body=b"x" * 10001), 413),
        (post(CHUNKED, body=b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"2000\r\n" + b"x" * 8192 + b"\r\n0\r\n\r\n"), 413),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 5000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 500_000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 2000 + b"\r\n", 431),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (post(b"Expect: magic", b"Content-Length: 2", body=b"hi"), 417),
    ],
)
def test_what_is_over_a_limit_is_told_so(server: Running, data: bytes, status: int) -> None:
    assert statuses(server.send(data)) == [status]


@pytest.mark.parametrize("whole", [True, False])
def test_a_refused_head_request_has_no_body(server: Running, whole: bool) -> None:
    head = b"HEAD /a HTTP/1.1\r\n" + HOST + b"Content-Length: 10001\r\n\r\n"
    answer = server.send(head + b"x" * 10001 if whole else head)
    assert statuses(answer) == [413]
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_that_sends_on_still_gets_its_413(server: Running) -> None:
    with server.connect() as client:
        client.sendall(post(b"Content-Length: 3000000"))
        for _ in range(30):
            client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_all(client)) == [413]


def test_a_body_in_chunks_is_put_together(server: Running) -> None:
    body = b"2;name=value\r\nhi\r\n3\r\n yo\r\n0\r\nX-Trailer: 1\r\n\r\n"
    assert server.send(post(CHUNKED, b"Connection: close", body=body)).endswith(b"POST /a hi yo")


def test_a_body_that_is_shorter_than_it_says_is_400(server: Running) -> None:
    answer = server.send(post(b"Content-Length: 50", body=b"hi"), half=True)
    assert statuses(answer) == [400]
    assert b"before it was complete" in answer


def test_what_comes_after_a_body_is_the_next_request(server: Running) -> None:
    answer = server.send(post(b"Content-Length: 2", body=b"hi") + b"MORE / HTTP/1.1\r\n\r\n")
    assert statuses(answer) == [200, 400]


def test_a_request_that_is_refused_by_its_head_need_not_send_a_long_body() -> None:
    with running(replace(LIMITS, body_bytes=1_000_000)) as one:
        long = b"POST /guarded HTTP/1.1\r\n" + HOST + b"Content-Length: 900000\r\n\r\n"
        with one.connect() as client:
            client.sendall(long)
            assert statuses(client.recv(10_000)) == [401]
        asking = b"POST /guarded HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        assert statuses(one.send(asking)) == [401]
        chunks = b"POST /guarded HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n\r\n" + b"ffff\r\n" + b"x" * 65535 + b"\r\n"
        assert statuses(one.send(chunks + b"ffff\r\n" + b"x" * 65535)) == [401]
        assert one.app.seen == []


def test_a_refused_request_with_a_short_body_keeps_the_connection(server: Running) -> None:
    refused = b"POST /guarded HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
    assert statuses(server.send(refused + GET, half=True)) == [401, 200]


def test_requests_sent_ahead_are_answered_in_their_order(server: Running) -> None:
    data = b"".join(b"GET /%d HTTP/1.1\r\n" % number + HOST + b"\r\n" for number in range(30))
    answer = server.send(data, half=True)
    assert [int(part.split()[0]) for part in answer.split(b"GET /")[1:]] == list(range(30))


def test_a_refusal_is_written_to_a_client_that_has_ended_its_side(server: Running) -> None:
    with server.connect() as client:
        server.app.replies.clear()
        client.sendall(b"GET /later HTTP/1.1\r\n" + HOST + b"\r\nnonsense\r\n\r\n")
        wait_until(lambda: bool(server.app.replies))
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: server.app.replies[0].abandoned)
        server.loop.call_soon_threadsafe(server.app.replies[0].resolve, Response(200, b"late"))
        assert statuses(read_all(client)) == [200, 400]


def test_answers_that_come_later_keep_the_order(server: Running) -> None:
    with server.connect() as client:
        server.app.replies.clear()
        client.sendall(b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n" + GET)
        wait_until(lambda: len(server.app.replies) == 1)
        server.loop.call_soon_threadsafe(server.app.replies[0].resolve, Response(200, b"first", b"text/plain"))
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert answer.index(b"first") < answer.index(b"GET /a")


def test_a_client_that_leaves_abandons_its_answer(server: Running) -> None:
    server.app.replies.clear()
    client = server.connect()
    client.sendall(b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n")
    wait_until(lambda: len(server.app.replies) == 1)
    assert not server.app.replies[0].abandoned
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: server.app.replies[0].abandoned)


def test_expect_continue_is_answered_before_the_body(server: Running) -> None:
    with server.connect() as client:
        client.sendall(post(b"Content-Length: 2", b"Expect: 100-continue", b"Connection: close"))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hi")
        assert statuses(read_all(client)) == [200]


@pytest.mark.parametrize(
    ("start", "status", "path"),
    [
        (b"GET http://x/b%20c?d=1 HTTP/1.1", 200, b"/b c"),
        (b"OPTIONS * HTTP/1.1", 200, b"*"),
        (b"GET /a#b HTTP/1.1", 200, b"/a#b"),
        (b"CONNECT x:80 HTTP/1.1", 200, b"x:80"),
    ],
)
def test_every_form_of_a_target_is_understood(server: Running, start: bytes, status: int, path: bytes) -> None:
    answer = server.send(start + b"\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert statuses(answer) == [status]
    assert answer.rpartition(b"\r\n\r\n")[2].split(b" ", 1)[1].strip() == path


def test_an_upgrade_that_is_offered_is_not_taken(server: Running) -> None:
    lines = HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert statuses(server.send(b"GET /a HTTP/1.1\r\n" + lines)) == [200]


def test_head_gets_the_length_and_no_body(server: Running) -> None:
    answer = server.send(b"HEAD /a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert b"content-length: 8\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_http_1_0_is_answered_and_closed(server: Running) -> None:
    answer = server.send(b"GET /a HTTP/1.0\r\n\r\n")
    assert statuses(answer) == [200]
    assert b"connection: close" in answer


def test_a_client_of_http_1_0_that_keeps_its_connection_is_told_that_it_stays(server: Running) -> None:
    asked = b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    with server.connect() as client:
        for last in (False, False, True):
            client.sendall(b"GET /a HTTP/1.0\r\n\r\n" if last else asked)
            answer = b""
            while not answer.endswith(b"GET /a "):
                answer += client.recv(1 << 16)
            assert statuses(answer) == [200]
            assert (b"connection: close" if last else b"connection: keep-alive") in answer
        assert client.recv(1) == b""
    # HTTP/1.1 needs no word for it, and a refusal ends the connection whatever the client asked for.
    assert b"connection: keep-alive" not in server.send(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n", half=True)
    assert b"connection: close" in server.send(b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\nBad\r\n\r\n")


def test_headers_of_an_answer_that_would_break_it_are_left_out(server: Running) -> None:
    answer = server.send(b"GET /headers HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert b"x-good: 1\r\n" in answer
    assert b"injected" not in answer
    assert answer.count(b"date:") == 1


@pytest.mark.parametrize("part", [b"", b"GET /a HT", b"GET /a HTTP/1.1\r\nHost: x\r\n", post(b"Content-Length: 9")])
def test_a_client_that_is_too_slow_is_cut_off(server: Running, part: bytes) -> None:
    started = time.monotonic()
    answer = server.send(part)
    assert 0.9 < time.monotonic() - started < 50
    assert statuses(answer) == ([408] if part else [])


def test_bytes_that_trickle_do_not_prolong_the_time(server: Running) -> None:
    started = time.monotonic()
    with server.connect() as client:
        client.sendall(b"GET /a HTTP/1.1\r\nX: ")
        with pytest.raises(OSError):  # noqa: PT012 - the moment at which the server closes is not known
            while time.monotonic() - started < 60:
                client.sendall(b"a")
                time.sleep(0.05)
    assert time.monotonic() - started < 50


def test_a_client_that_does_not_take_its_answer_is_cut_off(server: Running) -> None:
    with server.connect() as client:
        client.sendall(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")
        wait_until(lambda: len(server.server.connections) == 0)


def test_more_connections_than_the_limit_get_503_and_idle_ones_make_room() -> None:
    with running(replace(LIMITS, request_seconds=20, idle_seconds=20)) as server:
        busy = [server.connect() for _ in range(20)]
        for client in busy:
            client.sendall(b"GET /la")
        wait_until(lambda: sum(not one.quiet for one in server.server.connections) == 20)
        assert statuses(server.send(GET)) == [503]
        for client in busy:
            client.close()
        wait_until(lambda: len(server.server.connections) == 0)
        idle = [server.connect() for _ in range(20)]
        wait_until(lambda: len(server.server.connections) == 20)
        assert statuses(server.send(GET, half=True)) == [200]
        for client in idle:
            client.close()


def test_draining_finishes_what_was_begun_and_takes_no_more() -> None:
    one = Running(replace(LIMITS, grace_seconds=10, request_seconds=20, idle_seconds=20))
    idle, busy = one.connect(), one.connect()
    busy.sendall(b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n")
    wait_until(lambda: len(one.app.replies) == 1)
    ended = threading.Thread(target=one.stop)
    ended.start()
    assert read_all(idle) == b""
    wait_until(lambda: not listens(one.port))
    one.loop.call_soon_threadsafe(one.app.replies[0].resolve, Response(200, b"done"))
    answer = read_all(busy)
    assert statuses(answer) == [200]
    assert b"connection: close" in answer
    ended.join(60)
    assert not ended.is_alive()
    idle.close()
    busy.close()


@settings(max_examples=times(150, 100), deadline=None)
@given(st.lists(st.sampled_from([GET, *SMUGGLING.values(), b"\r\n", b"\0", b"POST", b" ", b":", b"0\r\n\r\n"])
                | st.binary(max_size=40), max_size=6), st.integers(1, 40))  # fmt: skip
def test_any_bytes_in_any_pieces_get_answers_of_200_or_4xx(server: Running, parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    with server.connect() as client:
        try:
            for start in range(0, min(len(data), 400), size):
                client.sendall(data[start : start + size])
            client.sendall(data[400:])
            client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
        except OSError:
            answer = b""
    assert all(status == 200 or 400 <= status < 500 for status in statuses(answer))


def test_trailers_and_sizes_of_chunks_do_not_grow_without_end(server: Running) -> None:
    start = post(CHUNKED, body=b"2\r\nhi\r\n0\r\nX-Trailer: ")
    with server.connect() as client:
        client.sendall(start)
        with pytest.raises(OSError):  # noqa: PT012 - the moment at which the server refuses is not known
            for _ in range(200):
                client.sendall(b"a" * 100_000)
            raise OSError(read_all(client))
    assert statuses(server.send(GET, half=True)) == [200]


def test_requests_sent_ahead_wait_in_the_network_and_not_in_memory() -> None:
    with running(replace(LIMITS, body_bytes=1_000_000, request_seconds=20)) as one, one.connect() as client:
        client.sendall(b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n")
        wait_until(lambda: len(one.app.replies) == 1)
        client.setblocking(False)
        ahead = post(b"Content-Length: 900000", body=b"x" * 900_000)
        sent, idle = 0, 0
        while idle < 20:  # until the buffers of the network are full, whose size each machine chooses
            try:
                start = sent % len(ahead)
                sent += client.send(ahead[start : start + 100_000])
                idle = 0
            except BlockingIOError:
                idle += 1
                time.sleep(0.02)
            # one that is whole, and what came with its end
            assert one.server.connections.held <= 900_000 + 256 * 1024
            assert sent < 1_000_000_000


def test_bodies_of_all_requests_are_bounded_together() -> None:
    with running(replace(LIMITS, body_bytes=1_000_000, held_bytes=1_500_000, request_seconds=20)) as one:
        with one.connect() as first, one.connect() as second:
            half = post(b"Content-Length: 1000000", b"Connection: close", body=b"x" * 999_999)
            first.sendall(half)
            wait_until(lambda: one.server.connections.held == 999_999)
            second.sendall(half)
            assert statuses(read_all(second)) == [503]
            first.sendall(b"x")
            assert statuses(read_all(first)) == [200]
        wait_until(lambda: one.server.connections.held == 0)


def test_one_who_reads_nothing_is_not_kept_beyond_the_limit() -> None:
    with running(replace(LIMITS, connections=3, request_seconds=20, idle_seconds=20)) as one:
        clients = [one.connect() for _ in range(12)]
        for client in clients:
            client.sendall(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")
        wait_until(lambda: len(one.app.seen) == 3)
        time.sleep(0.1)
        assert len(one.server.connections) == 3
        assert len(one.app.seen) == 3
        for client in clients:
            client.close()


# Time limits that a client keeps who is never idle for as long. On a busy machine a short one passes between two lines
# of a test; a server that does not look at what the client does cuts it off at any of them.
LONGER_AND_LONGER = [0.5 * 2**attempt for attempt in range(5)]


def test_one_who_reads_steadily_gets_a_long_answer_whole() -> None:
    assert any(gets_a_long_answer_whole(seconds) for seconds in LONGER_AND_LONGER)


def gets_a_long_answer_whole(seconds: float) -> bool:
    """Read for three times as long as a client may do nothing."""
    with running(replace(LIMITS, request_seconds=seconds)) as one, one.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(b"GET /big HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        received = 0
        try:
            while part := client.recv(400_000):
                received += len(part)
                time.sleep(seconds * 0.06)
        except ConnectionResetError:
            return False
        return received > 20_000_000


def test_a_body_that_comes_while_another_request_is_at_work_cuts_nothing() -> None:
    assert any(both_are_answered(seconds) for seconds in LONGER_AND_LONGER)


def both_are_answered(seconds: float) -> bool:
    """Send half a body, and the rest when the request before it is answered, after three times as long as one may."""
    with running(replace(LIMITS, request_seconds=seconds)) as one, one.connect() as client:
        client.sendall(b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n")
        wait_until(lambda: len(one.app.replies) == 1)
        client.sendall(post(b"Content-Length: 8", b"Connection: close", body=b"half"))
        time.sleep(seconds * 3)
        one.loop.call_soon_threadsafe(one.app.replies[0].resolve, Response(200, b"first", b"text/plain"))
        time.sleep(seconds * 0.2)
        try:
            client.sendall(b"half")
            return statuses(read_all(client)) == [200, 200]
        except OSError:
            return False


def test_line_ends_between_requests_keep_no_connection_open(server: Running) -> None:
    started = time.monotonic()
    with server.connect() as client, pytest.raises(OSError):  # noqa: PT012
        while time.monotonic() - started < 60:
            client.sendall(b"\r\n")
            time.sleep(0.1)
            client.setblocking(False)
            try:
                if client.recv(1) == b"":
                    raise OSError
            except BlockingIOError:
                pass
            client.setblocking(True)
    assert time.monotonic() - started < 50


def test_an_app_that_fails_ends_its_own_connection_only(server: Running) -> None:
    before = server.app.finish
    server.app.finish = lambda request, response: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    try:
        assert statuses(server.send(GET)) == []
    finally:
        server.app.finish = before  # type: ignore[method-assign]
    assert statuses(server.send(GET, half=True)) == [200]
