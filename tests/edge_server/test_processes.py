"""Several server processes on one port: one start, one end, and a place that is taken again when one dies."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_server.processes import _share_address
from tests.support.running import Done
from tests.support.waiting import wait_until

SECONDS = 20


def _service(folder: Path, *, mib: float = 0.01, **parts: Any) -> Path:
    """A service.json of two processes for a model that sums up the rows of a table of so many MiB that a row names."""
    table = np.ones((max(2, int(mib * 2**20 / 256)), 64), np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["w", "i"], ["p"]),
        helper.make_node("ReduceSum", ["p", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(table, "w"), numpy_helper.from_array(np.array([1, 2]), "axes")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "model.onnx"
    )
    document = {
        "schema": "edgepack.service/v1",
        "models": [{"name": "sum", "version": 1, "path": ".", "file": "model.onnx"}],
        "runtime": {"processes": 2, "threads": 1},
        **parts,
    }
    (folder / "service.json").write_text(json.dumps(document))
    return folder / "service.json"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _metric(server: Any, name: str) -> float:
    _, _, text = server.request("GET", "/metrics")
    lines = [line for line in text.decode().splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _unread(port: int) -> int:
    """How many connections to a port wait to be accepted, and how many bytes on others wait to be read."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(words[4].partition(":")[2], 16) for words in lines if words[1].endswith(f":{port:04X}"))


def _messages(server: Any) -> Counter[str]:
    return Counter(json.loads(line)["message"] for line in server.lines if line.startswith("{"))


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def test_all_processes_serve_one_port_and_ready_is_told_once(start: Callable[..., Any], tmp_path: Path) -> None:
    server = start("--config", _service(tmp_path), "--host", "127.0.0.1", "--port", "0")
    children = _children(server.process.pid)
    assert len(children) == 2
    for _ in range(20):
        assert server.score({"data": [[1.0] * 8]})[0] == 200
    status, _, metrics = server.request("GET", "/metrics")
    assert status == 200
    # Whichever process is asked tells of all.
    assert b'edgepack_http_requests_total{route="/score",method="POST",code="200"} 20\n' in metrics
    messages = _messages(server)
    assert messages["ready"] == 1
    assert server.stop() == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_process_that_dies_is_replaced_and_its_port_is_never_closed(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    server = start("--config", _service(tmp_path), "--host", "127.0.0.1", "--port", "0")
    before = _children(server.process.pid)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: before[0] not in _children(server.process.pid))
    # Among these are connections that the kernel gave to the dead process: they wait for the next one.
    for _ in range(20):
        assert server.score({"data": [[1.0] * 8]})[0] == 200
    after = wait_until(lambda: len(found := _children(server.process.pid)) == 2 and found)
    assert before[1] in after
    assert before[0] not in after
    assert _messages(server)["a process ended and is replaced"] == 1
    assert server.stop() == 0


def test_requests_that_were_begun_are_finished_when_the_service_stops(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    server = start("--config", _service(tmp_path), "--host", "127.0.0.1", "--port", "0")
    body = json.dumps({"data": [[1.0] * 8]}).encode()
    open_connections = []
    for _ in range(8):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        connection.putrequest("POST", "/score")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body[:5])
        open_connections.append(connection)
    wait_until(lambda: _metric(server, "edgepack_connections") > len(open_connections))
    wait_until(lambda: not _unread(server.port))
    server.process.terminate()
    time.sleep(0.3)
    for connection in open_connections:
        connection.send(body[5:])
        assert connection.getresponse().status == 200
        connection.close()
    assert server.process.wait(SECONDS) == 0


def test_a_model_that_cannot_be_served_stops_the_start_with_its_code(
    refused: Callable[..., Done], tmp_path: Path
) -> None:
    config = _service(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    failed = refused("--config", config, "--host", "127.0.0.1", "--port", "0")
    assert failed.code == 2
    assert failed.stderr.count("is not an ONNX file") == 1


def test_a_process_that_cannot_start_stops_the_others(refused: Callable[..., Done], tmp_path: Path) -> None:
    # Two threads a process: nothing is loaded before the fork, and both find out for themselves.
    config = _service(tmp_path, runtime={"processes": 2, "threads": 2})
    (tmp_path / "model.manifest.json").write_text("{}")
    failed = refused("--config", config, "--host", "127.0.0.1", "--port", "0")
    assert failed.code == 2
    assert "a process could not start" in failed.stderr
    assert '"message":"ready"' not in failed.stderr


def test_one_copy_of_a_model_serves_all_processes(start: Callable[..., Any], tmp_path: Path) -> None:
    server = start("--config", _service(tmp_path, mib=48), "--host", "127.0.0.1", "--port", "0")
    for _ in range(10):
        assert server.score({"data": [[1.0] * 8]})[0] == 200
    manager = server.process.pid
    assert len(list(Path(f"/proc/{manager}/task").iterdir())) <= 2  # its own, and the one that writes the log
    for child in _children(manager):
        # Less than the weights alone would be.
        assert _private_bytes(child) < 48 * 2**20
    assert server.stop() == 0


def test_processes_do_not_outlive_their_manager(start: Callable[..., Any], tmp_path: Path) -> None:
    server = start("--config", _service(tmp_path), "--host", "127.0.0.1", "--port", "0")
    children = _children(server.process.pid)
    server.process.kill()
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def test_an_address_in_use_is_told_even_where_its_owner_would_share_it(
    refused: Callable[..., Done], start: Callable[..., Any], tmp_path: Path
) -> None:
    config = _service(tmp_path)
    server = start("--config", config, "--host", "127.0.0.1", "--port", "0")
    failed = refused("--config", config, "--host", "127.0.0.1", "--port", str(server.port))
    assert failed.code == 1
    assert f"cannot listen on 127.0.0.1 port {server.port}" in failed.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_sockets_share_the_address_that_was_held(host: str) -> None:
    import socket

    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.bind((host, 0))
    port = held.getsockname()[1]
    shared = _share_address(held, 3)
    try:
        assert [one.getsockname()[:2] for one in shared] == [(host, port)] * 3
        for one in shared:
            one.listen()
    finally:
        for one in shared:
            one.close()
