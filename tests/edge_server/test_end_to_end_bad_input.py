"""Bad input to the whole server: an answer of 4xx each time, never a 5xx, never an end, and nothing is kept of it."""

from __future__ import annotations

import codecs
import gzip
import json
import select
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.edge_server.support.live_server import (
    JSON,
    ROW,
    Server,
    post,
    send,
    statuses,
    write_config,
    write_iris,
    write_script,
)
from tests.support.http_client import ask
from tests.support.sampling import times
from tests.support.waiting import SECONDS

LIMITS = {"body_bytes": 24 << 20, "header_bytes": 16_384}
# Only for clients that are to be cut off: on a busy machine a large body may take longer than that.
SHORT = {**LIMITS, "request_seconds": 1}
DEEP = 10_000_000

SCHEMA = """
import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.schema_decorators import input_schema

def init():
    pass

@input_schema("data", NumpyParameterType(np.array([[5.1, 3.5, 1.4, 0.2]])))
def run(data):
    return [0 for _ in data]
"""

TEXT = """
def init():
    pass

def run(data):
    return len(data)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad-input")


@pytest.fixture(scope="module")
def model(start_for_module: Callable[..., Server], folder: Path, iris: Any) -> Server:
    models = {"iris:1": write_iris(folder / "iris", iris.onnx)}
    return start_for_module("--config", write_config(folder / "model.json", models, limits=LIMITS))


@pytest.fixture(scope="module")
def schema(start_for_module: Callable[..., Server], folder: Path) -> Server:
    return serve_script(start_for_module, folder / "schema", SCHEMA)


@pytest.fixture(scope="module")
def text(start_for_module: Callable[..., Server], folder: Path) -> Server:
    return serve_script(start_for_module, folder / "text", TEXT)


@pytest.fixture(scope="module")
def short_model(start_for_module: Callable[..., Server], folder: Path, iris: Any) -> Server:
    models = {"iris:1": write_iris(folder / "short-iris", iris.onnx)}
    return start_for_module("--config", write_config(folder / "short-model.json", models, limits=SHORT))


@pytest.fixture(scope="module")
def short_schema(start_for_module: Callable[..., Server], folder: Path) -> Server:
    return serve_script(start_for_module, folder / "short-schema", SCHEMA, SHORT)


def serve_script(
    start: Callable[..., Server], folder: Path, code: str, limits: Mapping[str, object] = LIMITS
) -> Server:
    write_script(folder, code)
    script = {"file": "score.py", "source_directory": "."}
    return start("--config", write_config(folder / "service.json", {}, limits=limits, entry_script=script))


@pytest.fixture(params=["model", "schema"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that takes rows of iris; afterwards it still does, and has logged no fault of its own."""
    yield from still_well(request.getfixturevalue(request.param))


@pytest.fixture(params=["short_model", "short_schema"])
def short(request: pytest.FixtureRequest) -> Iterator[Server]:
    """As ``server``, and a request must come within a second."""
    yield from still_well(request.getfixturevalue(request.param))


def still_well(one: Server) -> Iterator[Server]:
    told = len(one.lines)
    yield one
    assert_well(one)
    assert not [line for line in one.lines[told:] if '"level":"error"' in line]


@pytest.fixture
def v2(model: Server) -> Iterator[Server]:
    yield model
    assert_well(model)
    assert not [line for line in model.lines if '"level":"error"' in line]


def assert_well(server: Server) -> None:
    assert server.process.poll() is None
    assert ask(server.port, "GET", "/").body == b"Healthy"
    answer = post(server, {"data": [ROW]})
    assert (answer.status, len(answer.json)) == (200, 1)


def resident(server: Server) -> int:
    """Bytes of resident memory of the server and its workers."""
    pids, total = [server.process.pid], 0
    for pid in pids:
        try:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # a worker that ended after it was listed
            continue
        if "VmRSS:" in status:  # which one that has just ended has not
            total += int(status.partition("VmRSS:")[2].split()[0]) * 1024
    return total


# ---- Bodies -------------------------------------------------------------------------------------------------------

GOOD = json.dumps({"data": [ROW]})
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "half an object": b'{"data": [[5.1, 3.5',
    "two documents": GOOD.encode() * 2,
    "an array": b"[[5.1, 3.5, 1.4, 0.2]]",
    "a number": b"7",
    "null": b"null",
    "an empty object": b"{}",
    "data of null": b'{"data": null}',
    "data of a number": b'{"data": 7}',
    "data of a string": b'{"data": "5.1, 3.5, 1.4, 0.2"}',
    "data of an object": b'{"data": {"a": {"b": []}}}',
    "no rows": b'{"data": []}',
    "rows without columns": b'{"data": [[], []]}',
    "a row alone": b'{"data": [5.1, 3.5, 1.4, 0.2]}',
    "too narrow": b'{"data": [[5.1, 3.5, 1.4]]}',
    "too wide": b'{"data": [[5.1, 3.5, 1.4, 0.2, 9]]}',
    "ragged": b'{"data": [[5.1, 3.5, 1.4, 0.2], [1, 2]]}',
    "ragged by depth": b'{"data": [[5.1, 3.5, 1.4, [0.2]]]}',
    "one axis too many": b'{"data": [[[5.1, 3.5, 1.4, 0.2]]]}',
    "words": b'{"data": [["a", "b", "c", "d"]]}',
    "objects": b'{"data": [[{}, {}, {}, {}]]}',
    "NaN": b'{"data": [[NaN, 3.5, 1.4, 0.2]]}',
    "Infinity": b'{"data": [[Infinity, 3.5, 1.4, 0.2]]}',
    "minus Infinity": b'{"data": [[-Infinity, 3.5, 1.4, 0.2]]}',
    "a comma too many": b'{"data": [[5.1, 3.5, 1.4, 0.2,]]}',
    "a comment": b'{"data": /* rows */ [[5.1, 3.5, 1.4, 0.2]]}',
    "quotes of one stroke": b"{'data': [[5.1, 3.5, 1.4, 0.2]]}",
    "a bare string": b'{"data": [["\xff\xfe", 1, 2, 3]]}',
    "half a surrogate": b'{"data": [["\\ud800", 1, 2, 3]]}',
    "a control character": b'{"data": "\x00"}',
    "another field": b'{"rows": [[5.1, 3.5, 1.4, 0.2]]}',
    "binary": bytes(range(256)) * 10,
    "zeros": bytes(5000),
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-16 without its mark": GOOD.encode("utf-16-le"),
    "UTF-32": GOOD.encode("utf-32"),
    "a byte order mark": codecs.BOM_UTF8 + GOOD.encode(),
    "latin-1": '{"data": [["é", 1, 2, 3]]}'.encode("latin-1"),
    "XML": b"<data><row>5.1</row></data>",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]q\x00(K\x01K\x02K\x03e.",
    "many brackets": b"[" * DEEP,
    "many brackets in data": b'{"data": ' + b"[" * DEEP,
    "many brackets that are closed": b'{"data": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    "many objects": b'{"data":' * 1_000_000,
    "a long number": b'{"data": [[' + b"9" * 1_000_000 + b", 1, 2, 3]]}",
    "a long key": b'{"' + b"k" * 2_000_000 + b'": 1}',
    "many keys": b"{" + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}",
    "many ragged rows": b'{"data": [' + b"[1,2,3,4]," * 200_000 + b"[1]]}",
}
# RFC 8259 section 8.1: JSON is UTF-8 without a mark, and a parser may take others.
EITHER = {"a byte order mark", "UTF-16", "UTF-32", "UTF-16 without its mark"}
# What json.dumps writes of numbers that are none: scripts get it, models without code do not.
PYTHONS = {"NaN", "Infinity", "minus Infinity"}
NUMBERS = ("1e400", "-1e400", "1e39", "1" * 400, "99999999999999999999")


@pytest.mark.parametrize(
    "body", [pytest.param(body, id=name) for name, body in BODIES.items() if name not in EITHER | PYTHONS | {"no rows"}]
)
def test_a_body_that_is_no_request_is_refused(server: Server, body: bytes) -> None:
    answer = ask(server.port, "POST", "/score", body, JSON)
    assert answer.status == 400
    assert 0 < len(answer.message) < 1000
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_no_rows_are_answered_by_a_model_and_refused_by_a_schema(
    server: Server, request: pytest.FixtureRequest
) -> None:
    answer = ask(server.port, "POST", "/score", BODIES["no rows"], JSON)
    if server is request.getfixturevalue("schema"):
        assert answer.status == 400
    else:
        assert (answer.status, answer.json) == (200, [])


@pytest.mark.parametrize("name", sorted(PYTHONS))
def test_json_of_numbers_that_are_none_is_for_scripts(
    server: Server, name: str, request: pytest.FixtureRequest
) -> None:
    answer = ask(server.port, "POST", "/score", BODIES[name], JSON)
    assert answer.status == (200 if server is request.getfixturevalue("schema") else 400)


@pytest.mark.parametrize("body", [pytest.param(BODIES[name], id=name) for name in sorted(EITHER)])
def test_json_in_another_encoding_is_refused_or_read_rightly(server: Server, body: bytes) -> None:
    answer = ask(server.port, "POST", "/score", body, JSON)
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert answer.json == post(server, {"data": [ROW]}).json


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_out_of_range_are_no_fault_of_the_server(server: Server, number: str) -> None:
    answer = ask(server.port, "POST", "/score", f'{{"data": [[{number}, 3.5, 1.4, 0.2]]}}', JSON)
    if server.process.args[-1].endswith("model.json") and number != NUMBERS[-1]:
        assert answer.status == 400
    assert answer.status in (200, 400)


@pytest.mark.parametrize("kind", ["text/xml", "image/png", "application/octet-stream", "x", "multipart/form-data"])
def test_another_content_type_is_refused_or_read_as_json(server: Server, kind: str) -> None:
    answer = ask(server.port, "POST", "/score", GOOD, {"content-type": kind})
    assert answer.status in (200, 400, 415)
    answer = ask(server.port, "POST", "/score", b"\x00" * 100, {"content-type": kind})
    assert answer.status in (400, 415)


@pytest.mark.parametrize(
    "coding", ["gzip", "deflate", "br", "zstd", "x", "gzip, gzip", "gzip, identity", "IDENTITY,,x-gzip", "identity, br"]
)
def test_a_body_that_is_packed_is_unpacked_or_refused(server: Server, coding: str) -> None:
    name = coding.lower().replace("identity", "").strip(", ")
    pack = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}.get(name)
    packed = JSON | {"content-encoding": coding}
    answer = ask(server.port, "POST", "/score", (pack or gzip.compress)(GOOD.encode()), packed)
    assert answer.status == (415 if pack is None else 200)
    if pack is None:
        assert repr(name) in answer.json["message"]
    else:
        beyond = pack(bytes(LIMITS["body_bytes"] + 1))
        assert ask(server.port, "POST", "/score", beyond, packed).status == 413
    # A bomb: 1 MB here, 1 GB unpacked.
    answer = ask(server.port, "POST", "/score", b"\x1f\x8b\x08" + bytes(1_000_000), JSON | {"content-encoding": coding})
    assert answer.status in (400, 415)


@pytest.mark.parametrize("name", [name for name in BODIES if "many" not in name and "long" not in name])
def test_an_undecorated_script_gets_any_text_and_nothing_else(text: Server, name: str) -> None:
    body = BODIES[name]
    answer = ask(text.port, "POST", "/score", body, JSON)
    try:
        length = len(body.decode())
    except UnicodeDecodeError:
        assert (answer.status, bool(answer.message)) == (400, True)
    else:
        assert (answer.status, answer.json) == (200, length)


@pytest.mark.parametrize("path", ["/v2/models/iris/infer", "/v2/models/iris/versions/1/infer"])
def test_bodies_that_are_no_inference_request_are_refused_by_v2s_schema(v2: Server, path: str) -> None:
    for name, body in BODIES.items():
        answer = ask(v2.port, "POST", path, body, JSON)
        assert (answer.status, list(answer.json)) == (400, ["error"]), name


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": ROW} | changes


@pytest.mark.parametrize(
    "inputs",
    [
        None, 7, {}, [], [7], [None], [{}], "features", [tensor(), tensor()], [tensor(name="other")],
        [tensor(name=7)], [tensor(datatype="FP99")], [tensor(datatype=None)], [tensor(datatype="BYTES")],
        [tensor(shape=[1, 3])], [tensor(shape=[2, 4])], [tensor(shape=[-1, 4])], [tensor(shape=[1.5, 4])],
        [tensor(shape=[2**62, 4])], [tensor(shape=[0, 4], data=[1])], [tensor(shape="x")], [tensor(shape=[])],
        [tensor(shape=[1] * 1000)], [tensor(data=None)], [tensor(data="x")], [tensor(data=["x"] * 4)],
        [tensor(data=[[5.1, 3.5], [1.4, [0.2]]])], [tensor(data=[None] * 4)], [tensor(data=[True, [], {}, ""])],
        [tensor(data=[1e39, 1, 2, 3])], [tensor(datatype="INT64", data=[2**70, 1, 2, 3])],
        [tensor(parameters=7)], [tensor(parameters={"binary_data_size": 16}, data=None)],
        [tensor(parameters={"binary_data_size": -1})],
    ],
)  # fmt: skip
def test_tensors_that_are_none_are_refused_by_v2s_schema(v2: Server, inputs: Any) -> None:
    answer = post(v2, {"inputs": inputs}, "/v2/models/iris/infer")
    assert (answer.status, list(answer.json)) == (400, ["error"])


@pytest.mark.parametrize("length", ["0", "-1", "7", "99999999", "x", "1e3", "", "18446744073709551616"])
def test_a_wrong_length_of_a_binary_request_is_refused(v2: Server, length: str) -> None:
    head = json.dumps({"inputs": [tensor(data=None, parameters={"binary_data_size": 16})]})
    headers = {"inference-header-content-length": length}
    answer = ask(v2.port, "POST", "/v2/models/iris/infer", head.encode() + bytes(16), headers)
    assert (answer.status, list(answer.json)) == (400, ["error"])


@pytest.mark.parametrize(
    "path",
    ["/v2/models/other/infer", "/v2/models/iris/versions/9/infer", "/v2/models/%00/infer", "/v2/models/../infer",
     "/v2/models//infer", "/v2/x", "/v2/models/iris/versions/x"],
)  # fmt: skip
def test_what_v2_does_not_have_is_told_by_its_schema(v2: Server, path: str) -> None:
    answer = ask(v2.port, "POST", path, json.dumps({"inputs": [tensor()]}))
    assert answer.status in (400, 404, 405)
    assert list(answer.json) == ["error"]


# ---- Framing ------------------------------------------------------------------------------------------------------

PATHS = ["/score", "/v2/models/iris/infer"]


@pytest.mark.parametrize("path", PATHS)
def test_a_body_over_the_limit_gets_413(server: Server, path: str) -> None:
    limit = LIMITS["body_bytes"]
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    assert statuses(send(server, head + b"Content-Length: %d\r\n\r\n" % (limit + 1))) == [413]
    chunk = b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"
    assert statuses(send(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 25)) == [413]


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_shorter_than_it_says_gets_4xx(server: Server, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    for framing in (b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"):
        assert statuses(send(server, head + framing, half=True)) == [400]


def test_a_body_that_is_longer_than_it_says_is_two_requests(server: Server) -> None:
    body = GOOD.encode()
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    received = send(server, head % len(body) + body + b"more than that\r\n\r\n")
    assert statuses(received) == [200, 400]


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"Content-Length: 99999999999\r\n\r\n", 413),
        (b"Content-Length: 26000000\r\n\r\n" + b"1" * 26_000_000, 413),
        (b"Transfer-Encoding: chunked\r\n\r\n2000000\r\n" + b"1" * 0x2000000, 413),
        (b"Content-Length: 100\r\n\r\n{", 408),
        (b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    ],
)
def test_a_request_that_is_refused_after_its_head_has_its_ids_and_is_counted(
    short: Server, rest: bytes, status: int
) -> None:
    def counted() -> float:
        page = ask(short.port, "GET", "/metrics").body.decode().splitlines()
        labels = f'route="/score",method="POST",code="{status}"'
        return sum(float(line.rpartition(" ")[2]) for line in page if f"_requests_total{{{labels}}}" in line)

    before = counted()
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nx-request-id: mine\r\n"
    received = send(short, head + rest)
    assert statuses(received) == [status]
    assert b"x-request-id: mine\r\n" in received.replace(b"X-", b"x-")
    assert counted() == before + 1


def test_slow_clients_are_cut_off_and_block_nobody(short: Server) -> None:
    # On a busy machine the limit may be over before anything else is done; a blocked server never answers before.
    assert any(others_are_answered_before_slow_clients_are_cut_off(short) for _ in range(10))


def others_are_answered_before_slow_clients_are_cut_off(server: Server) -> bool:
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(30)]
        for number, client in enumerate(slow):
            client.settimeout(SECONDS)
            client.sendall((b"POST /score HTTP/1.1\r\nHost: x\r\n", b"POST /score HTTP/1.1\r\nHost: x\r\n"
                            b"Content-Length: 50\r\n\r\n{")[number % 2])  # fmt: skip
        assert ask(server.port, "GET", "/").body == b"Healthy"
        before = not select.select(slow, [], [], 0)[0]
        assert_well(server)
        for client in slow:
            assert statuses(client.recv(1000)) == [408]
    return before


@pytest.mark.parametrize("method", ["FOO", "get", "PROPFIND", "M-SEARCH", "TRACE", "CONNECT", "PRI", "BREW", "SOURCE"])
def test_unknown_methods_get_4xx(server: Server, method: str) -> None:
    received = send(server, f"{method} /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert all(400 <= status < 500 for status in statuses(received))
    assert statuses(received)


def test_floods_of_headers_get_431(server: Server) -> None:
    start = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    many = b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(20_000))
    for flood in (many, b"X: " + b"a" * 1_000_000 + b"\r\n", b"a" * 100_000 + b": 1\r\n", b"X:\r\n" * 50_000):
        assert statuses(send(server, start + flood + b"\r\n")) == [431]
    assert statuses(send(server, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")) == [431]
    # Without an end.
    assert statuses(send(server, start + b"X: y\r\n" * 100_000)) == [431]


@pytest.mark.parametrize(
    "target",
    ["/%00", "/%ff%fe", "/score?%", "/score?a=%ff", "/score?" + "a=1&" * 3000, "/..%2f..", "/score?model=%00",
     "/score?model=" + "x" * 5000, "/swagger.json?version=%ff", "/docs?model=%00",
     "/swagger.json?" + "version=2&" * 1000],
)  # fmt: skip
def test_odd_targets_get_no_5xx(server: Server, target: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "HEAD"):
        body = "Content-Length: 2\r\n\r\n{}" if method == "POST" else "\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        (status,) = statuses(send(server, (head + body).encode()))
        assert status < 500


def test_many_bad_bodies_leave_no_memory_behind(server: Server) -> None:
    large = [BODIES[name] for name in ("many brackets in data", "many objects", "a long number", "a long key")]

    def flood(count: int) -> None:
        for number in range(count):
            assert ask(server.port, "POST", "/score", large[number % len(large)], JSON).status == 400

    def flood_at_once() -> None:
        threads = [threading.Thread(target=flood, args=(times(25, 5),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    flood(times(20, 8))
    before = resident(server)
    flood_at_once()
    # 8 MB a body, and four of them at a time.
    assert resident(server) < before + (130 << 20)
    flood(times(60, 12))
    middle = resident(server)
    flood_at_once()
    flood(times(60, 12))
    assert resident(server) < middle + (50 << 20)


def test_a_connection_that_waits_keeps_nothing_of_its_last_body(server: Server) -> None:
    body = b" " * (20 << 20)
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(12):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS))
            client.sendall(head % len(body) + body)
            assert statuses(client.recv(1000)) == [400]
        assert resident(server) < 230 << 20
