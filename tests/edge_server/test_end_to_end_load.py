"""The whole server under load: answers belong to their requests, bounds hold, an end in the middle loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.edge_server.support import models
from tests.edge_server.support.live_server import Server, post, write_config, write_script
from tests.edge_server.support.slow_graph import slow_graph, turns_for
from tests.support.http_client import Answer, ask, listens
from tests.support.waiting import wait_until

CONNECTIONS = 64
SECONDS = 2.0

SCRIPT = """
import json

def init():
    pass

def run(data):
    return [[2 * value + 1 for value in row] for row in json.loads(data)["data"]]
"""

SLEEPER = """
import asyncio

def init():
    pass

async def run(data):
    print("begun", data)
    await asyncio.sleep(1)
    return data
"""


def write_odd(folder: Path) -> Path:
    """A model that answers 2x + 1 for rows of three, as many as come: its runs can be joined."""
    folder.mkdir()
    nodes = [helper.make_node("Mul", ["x", "two"], ["even"]), helper.make_node("Add", ["even", "one"], ["y"])]
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("two", 2), ("one", 1))]
    models.save(
        folder / "model.onnx", nodes, [models.tensor("x", TensorProto.FLOAT, ["n", 3])],
        [models.tensor("y", TensorProto.FLOAT, ["n", 3])], constants,
    )  # fmt: skip
    return folder


@dataclass
class Load:
    """Clients that ask without a pause, each time for rows that nobody else asks for."""

    port: int
    paths: tuple[str, ...]
    answered: list[str] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    stop: bool = False

    async def run(self, seconds: float, meanwhile: Callable[[], Any] | None = None) -> None:
        """Ask for so long; call ``meanwhile`` in a thread after half of it."""
        clients = [asyncio.create_task(self._client(number)) for number in range(CONNECTIONS)]
        await asyncio.sleep(seconds / 2)
        if meanwhile is not None:
            await asyncio.to_thread(meanwhile)
        await asyncio.sleep(seconds / 2)
        self.stop = True
        await asyncio.gather(*clients)

    async def _client(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        turn = 0
        try:
            while not self.stop:
                await self._ask(reader, writer, number, turn)
                turn += 1
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.lost += 1
            # Not one byte of an answer may have come.
            if getattr(error, "partial", b""):
                self.wrong.append(error)
        finally:
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, turn: int) -> None:
        path = self.paths[(number + turn) % len(self.paths)]
        first = number * 100_000 + turn * 9
        rows = [[first + 3 * row + column for column in range(3)] for row in range(1 + turn % 3)]
        wanted = [[2 * value + 1 for value in row] for row in rows]
        if path.startswith("/v2"):
            flat = [value for row in rows for value in row]
            tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), 3], "data": flat}
            body = json.dumps({"inputs": [tensor]}).encode()
        else:
            body = json.dumps({"data": rows}).encode()
        name = f"{number}-{turn}"
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-request-id: {name}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        try:
            answer = json.loads(await reader.readexactly(int(headers["content-length"])))
        except asyncio.IncompleteReadError as error:
            self.wrong.append(error)
            raise
        self.answered.append(headers["x-request-id"])
        self.statuses[int(lines[0].split()[1])] += 1
        if path.startswith("/v2"):
            output = answer["outputs"][0]
            answer = np.array(output["data"]).reshape(output["shape"]).tolist()
        if answer != wanted or headers["x-request-id"] != name:
            self.wrong.append((name, wanted, answer))
        if headers.get("connection") == "close":
            raise asyncio.IncompleteReadError(b"", None)


@pytest.fixture
def odd(start: Callable[..., Server], tmp_path: Path) -> Server:
    models = {"odd:1": write_odd(tmp_path / "odd")}
    return start("--config", write_config(tmp_path / "service.json", models, logging={"requests": "all"}))


@pytest.fixture
def doubled(start: Callable[..., Server], tmp_path: Path) -> Server:
    """The same model in two processes on one port."""
    runtime = {"processes": 2, "threads": 1}
    models = {"odd:1": write_odd(tmp_path / "odd")}
    return start(
        "--config", write_config(tmp_path / "service.json", models, runtime=runtime, logging={"requests": "all"})
    )


@pytest.fixture
def scripted(start: Callable[..., Server], tmp_path: Path) -> Server:
    write_script(tmp_path, SCRIPT)
    script = {"file": "score.py", "workers": 2}
    config = write_config(tmp_path / "service.json", {}, entry_script=script, logging={"requests": "all"})
    return start("--config", config)


@pytest.mark.parametrize(
    ("kind", "paths"), [("odd", ("/score", "/score?model=odd", "/v2/models/odd/infer")), ("scripted", ("/score",))]
)
def test_every_answer_belongs_to_its_request(request: pytest.FixtureRequest, kind: str, paths: tuple[str, ...]) -> None:
    server = request.getfixturevalue(kind)
    load = Load(server.port, paths)
    waits: list[float] = []

    def look() -> None:
        for _ in range(10):
            begun = time.monotonic()
            assert ask(server.port, "GET", "/").body == b"Healthy"
            waits.append(time.monotonic() - begun)

    asyncio.run(load.run(SECONDS, look))
    assert load.wrong == []
    assert set(load.statuses) == {200}
    assert load.lost == 0
    assert load.statuses[200] > 5 * CONNECTIONS
    assert max(waits) < 1
    if kind == "odd":
        runs = metric(server, "edgepack_model_run_seconds_count")
        # Else this has shown nothing of joined runs.
        assert 0 < runs < load.statuses[200]


@pytest.mark.parametrize(
    ("kind", "paths"),
    [("odd", ("/score", "/v2/models/odd/infer")), ("doubled", ("/score",)), ("scripted", ("/score",))],
)
def test_sigterm_under_load_loses_no_answer(request: pytest.FixtureRequest, kind: str, paths: tuple[str, ...]) -> None:
    server = request.getfixturevalue(kind)
    load = Load(server.port, paths)
    codes: list[int] = []
    asyncio.run(load.run(1.0, lambda: codes.append(server.stop())))
    assert codes == [0]
    assert load.wrong == []
    assert set(load.statuses) == {200}
    assert load.lost == CONNECTIONS
    # What the server has begun is in its log, and was answered; of the rest it has seen nothing.
    records = [json.loads(line) for line in server.lines]
    begun = [record["request_id"] for record in records if record["message"] == "request"]
    assert sorted(begun) == sorted(load.answered)
    assert not [record for record in records if record["level"] in ("warning", "error")]


def test_sigterm_lets_every_call_of_a_script_finish(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start("--entry-script", write_script(tmp_path, SLEEPER), "--port", "0")
    answers: list[Answer] = []
    texts = [f"call {number}" for number in range(32)]
    clients = [
        threading.Thread(target=lambda text=text: answers.append(ask(server.port, "POST", "/score", text)))
        for text in texts
    ]
    for client in clients:
        client.start()
    wait_until(lambda: sum('"begun call' in line for line in list(server.lines)) == len(texts))
    assert server.stop() == 0
    for client in clients:
        client.join()
    assert sorted(answer.json for answer in answers) == sorted(texts)
    assert not listens(server.port)


def slow_server(start: Callable[..., Server], folder: Path, **limits: Any) -> Server:
    (folder / "slow").mkdir()
    slow_graph(folder / "slow/model.onnx")
    config = write_config(folder / "service.json", {"slow:1": folder / "slow"}, limits=limits, runtime={"threads": 1})
    return start("--config", config)


def test_a_full_queue_says_when_to_come_again(start: Callable[..., Server], tmp_path: Path) -> None:
    server = slow_server(start, tmp_path, queue=2)
    turns = turns_for(server, 1.5)  # in which all the others have come
    answers: list[Answer] = []
    clients = [threading.Thread(target=lambda: answers.append(post(server, {"data": [turns]}))) for _ in range(8)]
    for client in clients:
        client.start()
    time.sleep(0.3)
    assert ask(server.port, "GET", "/").status == 200
    for client in clients:
        client.join()
    # One runs and two wait.
    assert Counter(answer.status for answer in answers) == {200: 3, 503: 5}
    for answer in answers:
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert "try again" in answer.message
    assert post(server, {"data": [1]}).json == 1.0


def test_a_run_whose_time_is_over_is_ended(start: Callable[..., Server], tmp_path: Path) -> None:
    server = slow_server(start, tmp_path, scoring_seconds=0.4)
    turns = turns_for(server, 30)
    begun = time.monotonic()
    answer = post(server, {"data": [turns]})
    assert (answer.status, answer.message) == (500, "Scoring timeout after 400 ms")
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert post(server, {"data": [1]}).json == 1.0
    assert time.monotonic() - begun < 20  # of the 30 s that the run would take
    # The run itself has been ended too: nothing computes any more.
    used = cpu_seconds(server)
    time.sleep(0.5)
    assert cpu_seconds(server) - used < 0.3
    os.kill(server.process.pid, signal.SIGTERM)
    assert server.stop() == 0


def metric(server: Server, name: str) -> float:
    """The sum of a metric's values."""
    lines = ask(server.port, "GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))


def cpu_seconds(server: Server) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
