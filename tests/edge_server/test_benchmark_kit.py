"""The benchmark's own parts: what it measures beside must follow the server, and it must see answers that are wrong."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import servers
from benchmarks.peers.models import write_bodies
from benchmarks.peers.servers import APPS, KINDS, ROOT, Server, free_port
from benchmarks.serve import Bench, Figures, Line, Load, print_line
from tests.edge_server.support.server import Iris
from tests.support.http_client import listens
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real("taskset")
CORE = min(os.sched_getaffinity(0))


@pytest.fixture
def bodies(converted: Path, iris: Iris) -> Path:
    """A converted model with the bodies that each kind of server is sent, for two rows."""
    write_bodies(converted, 2, iris.rows[:2], iris.model.predict_proba(iris.rows[:2]).tolist())
    return converted


@pytest.fixture
def start_kind(bodies: Path, tmp_path: Path) -> Iterator[object]:
    """Start servers of the benchmark's kinds; all are stopped after the test."""
    running: list[Server] = []

    def starter(kind: str) -> Server:
        running.append(Server(kind, bodies, tmp_path, CORE))
        return running[-1]

    yield starter
    for server in running:
        server.stop()


@pytest.mark.parametrize("kind", ["own", "script", "binary"])
def test_our_kinds_of_server_give_the_original_models_probabilities(start_kind, kind: str) -> None:
    server = start_kind(kind)
    assert server.check(2) == ""
    pss, rss = server.memory()
    assert 0 < pss <= rss
    assert server.cpu() > 0


def test_a_wrong_answer_is_seen(start_kind, bodies: Path) -> None:
    server = start_kind("own")
    expected = json.loads((bodies / "expected-2.json").read_text())
    expected[1][0] += 0.01
    (bodies / "expected-2.json").write_text(json.dumps(expected))
    assert server.check(2).startswith("wrong answer")
    (bodies / "data-2.json").write_text('{"data": [[1, 2]]}')
    assert server.check(2).startswith("status 400")


def test_a_server_that_does_not_start_says_why(bodies: Path, tmp_path: Path) -> None:
    (bodies / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(servers.MissingError, match=r"ours ended at its start: (.|\n)*model\.onnx"):
        Server("own", bodies, tmp_path, CORE)


def test_stopping_ends_what_the_server_started(start_kind) -> None:
    server = start_kind("script")
    family = servers._tree(server._process.pid)
    assert len(family) > 1
    server.stop()
    assert all(servers._born(pid) != born for pid, born in family.items())


def test_the_echo_answers_with_what_it_is_sent() -> None:
    port = free_port()
    command = [sys.executable, str(APPS / "echo.py"), str(port), "asyncio"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        try:
            wait_until(lambda: listens(port))
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")
                answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nhello")
        finally:
            process.terminate()


@pytest.mark.real("wrk")
def test_answers_that_are_not_2xx_make_a_line_invalid(
    start_kind, bodies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_kind("own")
    load, good = Load("own", "iris", 2, 2), Figures()
    bench = Bench(tmp_path, CORE, CORE, 1)
    bench._wrk(server, load, good, 1)
    assert good.wrong == ""
    assert good.rate[0] > 0
    assert good.p50[0] <= good.p99[0]
    bad = Figures()
    server.kind = replace(KINDS["own"], path="/nothing")
    bench._wrk(server, load, bad, 1)
    assert "were refused" in bad.wrong
    other = Load("azure", "iris", 2, 2)
    print_line(Line("x", "a line", load, other, 20), {load: good, other: bad})
    assert "invalid: Azure: of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rates", "at_most", "verdict"),
    [([19.0, 20.0, 90.0], False, "reached"), ([19.9, 1.0, 30.0], False, "NOT REACHED"), ([20.1], True, "NOT REACHED")],
)
def test_the_median_of_the_ratios_is_what_counts(
    rates: list[float], at_most: bool, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, other = Load("own", "m"), Load("azure", "m")
    found = {ours: Figures(rates, rates), other: Figures([1.0] * len(rates), [1.0] * len(rates))}
    print_line(Line("x", "a line", ours, other, 20, at_most), found)
    line = capsys.readouterr().out.rstrip()
    assert line.endswith(f"20    {verdict}")
