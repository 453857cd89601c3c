"""What the server answers over HTTP, whatever the model."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.edge_server.support.slow_graph import slow_graph, turns_for
from tests.support.http_client import ask


def _get(server: Any, path: str) -> tuple[int, dict[str, str], bytes]:
    answer: tuple[int, dict[str, str], bytes] = server.request("GET", path)
    return answer


def _config(folder: Path, **changes: Any) -> Path:
    document = {
        "schema": "edgepack.service/v1",
        "models": [{"name": "iris", "version": 1, "path": "iris/1", "file": "model.onnx"}],
        "entry_script": None,
        "host": "127.0.0.1",
        "port": 0,
        "limits": {"body_bytes": 20_000},
        "logging": {"level": "info"},
        **changes,
    }
    path = folder / "service.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def server(start: Callable[..., Any], converted: Path, tmp_path: Path) -> Any:
    return start("--config", _config(tmp_path))


def test_health_answers_healthy(server: Any) -> None:
    status, headers, body = _get(server, "/")
    assert (status, body) == (200, b"Healthy")
    assert headers["content-type"].startswith("text/html")
    status, headers, body = server.request("HEAD", "/")
    assert (status, headers["content-length"], body) == (200, "7", b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/score/", 404, None),
        ("GET", "/score", 405, "OPTIONS, POST"),
        ("PUT", "/score", 405, "OPTIONS, POST"),
        ("POST", "/", 405, "GET, HEAD, OPTIONS"),
    ],
)
def test_other_paths_and_methods_get_a_json_message(
    server: Any, method: str, path: str, status: int, allow: str | None
) -> None:
    found, headers, body = server.request(method, path)
    assert found == status
    assert headers.get("allow") == allow
    assert headers["content-type"] == "application/json"
    assert list(json.loads(body)) == ["message", "status_code"]


def test_one_connection_serves_many_requests(server: Any, iris: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"data": iris.rows})
    for _ in range(5):
        connection.request("POST", "/score", body)
        response = connection.getresponse()
        assert (response.status, len(json.loads(response.read()))) == (200, len(iris.rows))
        assert not response.will_close
    connection.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_00,
        b'{"data": [[1, 2, 3, NaN]]}',
        b'{"data": [[1, 2, 3, 1e999]]}',
        b'{"data": [["\xff", 2, 3, 4]]}',
        b"[[1, 2, 3, 4]]",
        b"{}",
        b'{"data": [[1, 2, 3, 4]], "inputs": {}}',
        b'{"data": [[1, 2, 3, 4]], "method": 7}',
        b'{"data": [[1, 2, 3, 4]], "extra": 7}',
        b'{"inputs": 5}',
    ],
)
def test_a_body_that_is_no_request_gets_400(server: Any, body: bytes) -> None:
    status, _, answer = server.request("POST", "/score", body)
    assert status == 400
    assert json.loads(answer)["message"]
    assert _get(server, "/")[0] == 200


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_over_the_limit_gets_413_and_the_server_goes_on(server: Any, framing: str) -> None:
    answer = ask(
        server.port, "POST", "/score", b" " * 3_000_000 if framing == "length" else iter([b" " * 10_000] * 300)
    )
    assert answer.status == 413
    assert "20000 bytes" in answer.json["message"]
    assert _get(server, "/")[0] == 200


def test_a_body_of_just_the_limit_is_taken(server: Any, iris: Any) -> None:
    body = json.dumps({"data": iris.rows}).encode()
    assert server.request("POST", "/score", body.ljust(20_000))[0] == 200
    assert server.request("POST", "/score", body.ljust(20_001))[0] == 413


def test_a_silent_connection_blocks_nobody(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.send(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert _get(server, "/")[0] == 200


def test_a_client_that_leaves_harms_nobody(server: Any) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            leaving.send(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert _get(server, "/")[0] == 200
    assert not [line for line in server.lines if '"level":"error"' in line]


def test_the_log_is_json_lines(server: Any) -> None:
    assert server.stop() == 0
    records = [json.loads(line) for line in server.lines]
    assert [record["message"] for record in records] == ["model loaded", "ready", "stopped"]
    assert records[1]["models"] == ["iris:1"]
    assert records[1]["golden_values"] == 20


def _failing_graph(path: Path) -> None:
    """Puts its values into rows of two: the graph itself fails on an odd number of them."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["values", "pairs"], ["paired"])],
        "pairs",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("paired", TensorProto.FLOAT, ["m", 2])],
        [numpy_helper.from_array(np.array([-1, 2], np.int64), "pairs")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


def test_a_run_that_fails_by_its_data_gets_400(start: Callable[..., Any], tmp_path: Path) -> None:
    _failing_graph(tmp_path / "pairs.onnx")
    server = start("--model", tmp_path / "pairs.onnx", "--port", "0")
    for _ in range(3):
        assert server.score({"data": [1, 2]}) == (200, [[1.0, 2.0]])
    status, answer = server.score({"data": [1, 2, 3]})
    assert status == 400
    assert answer["message"]
    assert server.score({"data": [1, 2]}) == (200, [[1.0, 2.0]])


def test_it_leaves_with_its_exit_code_however_often_it_is_told_to(start: Callable[..., Any], tmp_path: Path) -> None:
    slow_graph(tmp_path / "slow.onnx")
    server = start("--model", tmp_path / "slow.onnx", "--port", "0")
    while server.process.poll() is None:
        server.process.terminate()
        time.sleep(0.001)
    assert server.process.returncode == 0


def test_health_answers_during_a_long_run_and_sigterm_lets_it_finish(start: Callable[..., Any], tmp_path: Path) -> None:
    slow_graph(tmp_path / "slow.onnx")
    server = start("--model", tmp_path / "slow.onnx", "--port", "0")
    turns = turns_for(server, seconds=3.0)
    answers: list[Any] = []
    scoring = threading.Thread(target=lambda: answers.append(server.score({"data": [turns]})))
    scoring.start()
    time.sleep(0.3)
    assert _get(server, "/")[0] == 200
    assert not answers, "health waited for the run"
    assert server.stop() == 0
    scoring.join()
    assert answers == [(200, 1.0)]
