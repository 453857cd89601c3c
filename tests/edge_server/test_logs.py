"""Log lines: what they hold, what they never hold, and that nobody waits for their reader."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_server.config.values import Logging
from edge_server.http.messages import Request, Response, message
from edge_server.telemetry import lines as lines_module
from edge_server.telemetry import logs
from edge_server.telemetry.lines import LineWriter
from edge_server.telemetry.request_log import RequestLog
from tests.edge_server.support.instructions import instructions
from tests.edge_server.support.server import Server
from tests.support.running import finish

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@dataclass
class Pipe:
    """A pipe with a writer at its end."""

    reader: int
    end: int
    writer: LineWriter
    documents: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> list[dict[str, Any]]:
        """Every line that was written so far."""
        assert self.writer.flush(10)
        return [json.loads(line) for line in os.read(self.reader, 1 << 20).splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that nobody else reads."""
    reader, end = os.pipe()
    yield Pipe(reader, end, LineWriter(end, logs.dropped))
    os.close(end)
    os.close(reader)


def request(path: str = "/score", **headers: str) -> Request:
    """A request with headers by name, ``_`` for ``-``."""
    given = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    made = Request("POST", path, path, "secret=1", given, b"12345", "10.0.0.7")
    made.request_id = "the-id"
    return made


def test_a_request_line_has_what_is_needed_to_find_it_again(pipe: Pipe) -> None:
    asked = request(traceparent=f"00-{TRACE}-{SPAN}-01")
    asked.client_request_id = "theirs"
    RequestLog(Logging(requests="all"), pipe.writer).log(asked, Response(200, b"[1]", exec_ms=0.12345), 0.0123456)
    (line,) = pipe.read()
    moment = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert line == {
        "level": "info",
        "logger": "edge_server.requests",
        "message": "request",
        "request_id": "the-id",
        "client_request_id": "theirs",
        "method": "POST",
        "path": "/score",
        "status": 200,
        "ms": 12.346,
        "exec_ms": 0.123,
        "bytes_in": 5,
        "bytes_out": 3,
        "client": "10.0.0.7",
        "trace_id": TRACE,
        "span_id": SPAN,
    }


@pytest.mark.parametrize(("asked", "statuses"), [("all", [200, 400, 500]), ("errors", [400, 500]), ("none", [])])
def test_the_configuration_says_which_requests_are_logged(pipe: Pipe, asked: str, statuses: list[int]) -> None:
    log = RequestLog(Logging(requests=asked), pipe.writer)
    for status in (200, 400, 500):
        log.log(request(), Response(status, b""), 0.001)
    pipe.writer.write(b"{}\n")
    found = pipe.read()[:-1]
    assert [line["status"] for line in found] == statuses
    levels = {200: "info", 400: "warning", 500: "error"}
    assert [line["level"] for line in found] == [levels[status] for status in statuses]


def test_secrets_never_get_into_a_line(pipe: Pipe) -> None:
    log = RequestLog(Logging(requests="all"), pipe.writer)
    log.log(request(authorization="Bearer hunter2", cookie="hunter2"), Response(401, b"hunter2"), 0.001)
    text = json.dumps(pipe.read())
    assert "hunter2" not in text
    assert "secret" not in text


def test_a_refusal_is_logged_with_what_the_client_was_told(pipe: Pipe) -> None:
    log = RequestLog(Logging(requests="all"), pipe.writer)
    log.log(request(), message(400, "x" * 300), 0.001)
    unknown = request("/nothing")
    unknown.request_id = ""
    log.log(unknown, message(404, "there is nothing at /nothing"), 0.001)
    log.log(request(), Response(200, b"[1]"), 0.001)
    refused, missing, answered = pipe.read()
    assert refused["problem"] == "x" * 200
    assert missing["problem"] == "there is nothing at /nothing"
    assert "request_id" not in missing
    assert "problem" not in answered


def test_a_path_that_is_long_or_no_unicode_is_logged_all_the_same(pipe: Pipe) -> None:
    log = RequestLog(Logging(requests="all"), pipe.writer)
    log.log(request("/\udcff\n" + "a" * 100_000), Response(404, b""), 0.001)
    (line,) = pipe.read()
    assert line["path"] == "/?\n" + "a" * 197


def test_milliseconds_are_written_in_full(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(Logging(requests="all"), pipe.writer)
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0074)
    log.log(request(), Response(200, b""), 0.001)
    assert pipe.read()[0]["time"] == "2023-11-14T22:13:20.007+00:00"


def test_lines_of_requests_and_of_loggers_come_in_their_order(pipe: Pipe) -> None:
    handler = logs._Handler(pipe.writer)
    handler.setFormatter(logs.JsonLines())
    logger = logging.Logger("order")
    logger.addHandler(handler)
    log = RequestLog(Logging(requests="all"), pipe.writer)
    for number in range(20):
        logger.info("before %d", number)
        log.log(request(f"/{number}"), Response(200, b""), 0.001)
    lines = pipe.read()
    assert [line.get("path") or line["message"] for line in lines] == [
        text for number in range(20) for text in (f"before {number}", f"/{number}")
    ]


def test_a_reader_that_stalls_holds_nobody_up_and_learns_what_was_lost() -> None:
    reader, end = os.pipe()
    writer = LineWriter(end, logs.dropped, held_bytes=100_000)
    line = b'{"n":' + b"1" * 990 + b"}\n"
    began = time.monotonic()
    for _ in range(1000):
        writer.write(line)
    assert time.monotonic() - began < 50  # nobody reads, so it would be for ever
    assert not writer.flush(0.1)
    # A pipe holds 64 KiB, the writer 100 kB, and one piece is on its way.
    assert 1000 - 180 <= writer.dropped <= 1000 - 100
    dropped = writer.dropped
    found: list[bytes] = []
    follower = threading.Thread(target=lambda: found.extend(os.fdopen(reader, "rb")))
    follower.start()
    assert writer.flush(10)
    writer.write(b"{}\n")
    assert writer.flush(10)
    os.close(end)
    follower.join(60)
    told = [json.loads(text) for text in found if b"dropped" in text]
    assert [(entry["level"], entry["dropped"]) for entry in told] == [("warning", dropped)]
    assert found.count(line) == 1000 - dropped
    assert found[-1] == b"{}\n"


def test_a_reader_that_has_gone_is_no_error() -> None:
    reader, end = os.pipe()
    os.close(reader)
    writer = LineWriter(end, logs.dropped)
    writer.write(b"nobody\n")
    assert writer.flush(10)
    writer.write(b"nobody\n")
    assert writer.flush(10)
    os.close(end)


def test_a_pipe_that_does_not_block_gets_every_line() -> None:
    reader, end = os.pipe()
    os.set_blocking(end, False)
    writer = LineWriter(end, logs.dropped)
    for number in range(2000):
        writer.write(b"%0100d\n" % number)
    found: list[bytes] = []
    assert not writer.flush(0.1)  # the pipe is full
    follower = threading.Thread(target=lambda: found.extend(os.fdopen(reader, "rb")))
    follower.start()
    assert writer.flush(10)
    os.close(end)
    follower.join(60)
    assert [int(text) for text in found] == list(range(2000))


def test_pieces_end_where_lines_end() -> None:
    lines = [b"x" * 1500 + b"\n", b"y" * 3000 + b"\n", b"z" * 10_000 + b"\n", b"w\n"]
    pieces = list(lines_module._pieces(lines))
    assert b"".join(pieces) == b"".join(lines)
    assert [len(piece) for piece in pieces] == [1501, 3001, 10_001, 2]
    assert list(lines_module._pieces([])) == []


def test_a_fork_writes_its_own_lines_and_not_its_parents() -> None:
    reader, end = os.pipe()
    writer = LineWriter(end, logs.dropped)
    writer.write(b"parent\n")
    child = os.fork()
    if child == 0:
        writer.write(b"child\n")
        os._exit(0 if writer.flush(5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert writer.flush(5)
    os.close(end)
    with os.fdopen(reader, "rb") as lines:
        assert sorted(lines) == [b"child\n", b"parent\n"]


def run(code: str) -> list[dict[str, Any]]:
    """The lines that a program writes."""
    done = finish(sys.executable, "-c", code)
    assert (done.code, done.stdout) == (0, "")
    return [json.loads(line) for line in done.stderr.splitlines()]


WRITER = "from edge_server.telemetry.lines import LineWriter; writer = LineWriter(2, logs.dropped)"


@pytest.mark.parametrize("writer", ["", ", writer"])
def test_every_line_is_there_when_the_process_ends(writer: str) -> None:
    lines = run(
        f"import logging; from edge_server.telemetry import logs; {WRITER}; logs.configure('info'{writer})\n"
        "for number in range(500): logging.info('line %d', number)"
    )
    assert [line["message"] for line in lines] == [f"line {number}" for number in range(500)]


def test_records_become_lines_with_extras_traceback_and_request_id() -> None:
    lines = run(
        "import logging; from edge_server.telemetry import logs; logs.configure('info')\n"
        "log = logging.getLogger('a.b')\n"
        "log.debug('not this one')\n"
        "logs.request_id.set('r1')\n"
        "log.warning('%s', 'told', extra={'model': 'iris', 'big': 2**70})\n"
        "log.info('its own', extra={'request_id': 'r2'})\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: log.exception('failed \\udcff')"
    )
    first, own, failed = lines
    assert (first["level"], first["logger"], first["message"]) == ("warning", "a.b", "told")
    assert (first["model"], first["request_id"]) == ("iris", "r1")
    assert first["big"] == str(2**70)
    assert own["request_id"] == "r2"
    assert failed["message"] == "failed ?"
    assert "ZeroDivisionError" in failed["traceback"]
    assert datetime.fromisoformat(first["time"]).tzinfo is not None


def test_a_line_takes_few_steps() -> None:
    end = os.open(os.devnull, os.O_WRONLY)
    writer = LineWriter(end, logs.dropped)
    log = RequestLog(Logging(requests="all"), writer)
    asked, answer = request(), Response(200, b"[1]", exec_ms=0.1)
    assert instructions(lambda: log.log(asked, answer, 0.001)) < 300
    assert writer.flush(10)
    os.close(end)


def test_a_server_logs_the_requests_that_it_is_asked_to(converted: Path, start: Callable[..., Server]) -> None:
    document = {
        "schema": "edgepack.service/v1",
        "host": "127.0.0.1",
        "port": 0,
        "models": [{"name": "iris", "version": 1, "path": str(converted), "file": "model.onnx"}],
        "logging": {"requests": "all"},
    }
    (converted / "service.json").write_text(json.dumps(document))
    server = start("--config", converted / "service.json")
    assert server.score({"data": [[1, 2, 3, 4]]})[0] == 200
    status, headers, _ = server.request("POST", "/score?key=hunter2", b"hunter2")
    assert status == 400
    assert server.stop() == 0
    told = [json.loads(line) for line in server.lines]
    good, bad = (line for line in told if line["logger"] == "edge_server.requests")
    assert (good["status"], good["level"], good["path"], good["bytes_in"]) == (200, "info", "/score", 24)
    assert good["exec_ms"] <= good["ms"]
    assert (bad["status"], bad["level"], bad["request_id"]) == (400, "warning", headers["x-ms-request-id"])
    assert "hunter2" not in "".join(server.lines)
    assert told[-1]["message"] == "stopped"
