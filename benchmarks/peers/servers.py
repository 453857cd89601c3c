"""The servers: how each is started, queried, checked, measured and stopped. All on free loopback ports."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import MissingError, interpreter

APPS = Path(__file__).parent / "apps"
ROOT = Path(__file__).parents[2]
START_SECONDS = 60
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Kind:
    """A kind of server. ``command`` gives its arguments from a port, its folder, and the model's.

    ``body`` says which of the model's bodies it is sent: ``data``, ``v2`` or ``binary``. An ``environment`` of None is
    the one that runs the benchmark.
    """

    title: str
    command: Callable[[int, Path, Path], list[str]]
    environment: str | None = None
    ready: str = "/"
    path: str = "/score"
    body: str = "data"
    probabilities: Callable[[Any], Any] = lambda answer: answer
    variables: dict[str, str] = field(default_factory=dict)
    echoes: bool = False


def _mlserver(port: int, folder: Path, model: Path) -> list[str]:
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", **ports}))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "model", "implementation": "mlserver_model.OnnxModel"})
    )
    return ["-c", "from mlserver.cli import main; main()", "start", str(folder)]


def _app(name: str, *words: str) -> Callable[[int, Path, Path], list[str]]:
    return lambda port, folder, model: [str(APPS / name), str(port), *words]


def _flat(answer: dict[str, Any]) -> list[list[float]]:
    output = answer["outputs"][0]
    width = output["shape"][1]
    return [output["data"][start : start + width] for start in range(0, len(output["data"]), width)]


KINDS = {
    "own": Kind(
        "ours",
        lambda port, folder, model: ["-m", "edge_server", "--model", str(model / "model.onnx"), "--port", str(port)],
    ),
    "script": Kind(
        "ours, entry script",
        lambda port, folder, model: [
            "-m", "edge_server", "--entry-script", str(APPS / "score.py"),
            "--model", str(model / "model.onnx"), "--port", str(port),
        ],
    ),
    "binary": Kind(
        "ours, V2 binary",
        lambda port, folder, model: ["-m", "edge_server", "--model", str(model / "model.onnx"), "--port", str(port)],
        path="/v2/models/{model}/infer",
        body="binary",
    ),
    "azure": Kind(
        "Azure",
        lambda port, folder, model: [
            str(APPS / "azure_loopback.py"), "--entry_script", str(APPS / "score.py"), "--port", str(port),
        ],
        "azure",
    ),
    "mlserver": Kind(
        "MLServer", _mlserver, "mlserver", "/v2/models/model/ready", "/v2/models/model/infer", "v2", _flat
    ),
    "bentoml": Kind(
        "BentoML",
        lambda port, folder, model: [
            "-m", "bentoml", "serve", "bento_service:Score", "--working-dir", str(APPS),
            "--host", "127.0.0.1", "--port", str(port),
        ],
        "bentoml",
        "/readyz",
        variables={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    "litserve": Kind("LitServe", _app("lit_app.py"), "litserve", "/health", "/predict"),
    "server-echo": Kind("our server's echo", _app("server_echo.py"), "echo", echoes=True),
    "echo": Kind("echo", _app("echo.py", "asyncio"), "echo", echoes=True),
    "echo-uvloop": Kind("echo, uvloop", _app("echo.py", "uvloop"), "echo", echoes=True),
    "uvicorn": Kind("uvicorn's echo", _app("uvicorn_echo.py", "asyncio"), "echo", echoes=True),
    "uvicorn-uvloop": Kind("uvicorn's echo, uvloop", _app("uvicorn_echo.py", "uvloop"), "echo", echoes=True),
}  # fmt: skip


class Server:
    """A running server, pinned to one core. ``started`` is how many seconds it took to its first 200."""

    def __init__(self, name: str, model: Path, folder: Path, core: int) -> None:
        self.kind = KINDS[name]
        self.model = model
        self.port = free_port()
        self.folder = folder / f"{name}-{self.port}"
        self.folder.mkdir()
        python = Path(sys.executable) if self.kind.environment is None else interpreter(self.kind.environment)
        command = ["taskset", "-c", str(core), str(python), *self.kind.command(self.port, self.folder, model)]
        with (self.folder / "log").open("wb") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait()
        except MissingError:
            self.stop()
            raise
        self.started = time.perf_counter() - began

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AML_", "EDGEPACK_", "PYTHON"))}
        own = {
            "AZUREML_MODEL_DIR": str(self.model),
            "AML_APP_ROOT": str(self.folder),
            "HOME": str(self.folder),
            "BENTOML_HOME": str(self.folder),
            "PYTHONPATH": str(ROOT if self.kind.environment in (None, "echo") else APPS),
        }
        return {**kept, **own, **self.kind.variables}

    def _wait(self) -> None:
        end = time.perf_counter() + START_SECONDS
        while time.perf_counter() < end:
            if self._process.poll() is not None:
                raise MissingError(f"{self.kind.title} ended at its start: {self._tail()}")
            try:
                if self._request("GET", self.kind.ready, None, {}, 5)[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.005)
        raise MissingError(f"{self.kind.title} was not ready within {START_SECONDS} seconds: {self._tail()}")

    def _tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace").strip()[-300:]

    @property
    def path(self) -> str:
        """Where it is asked; a converted model is called as its folder, which may be <name>/<version>."""
        folder = self.model.parent if self.model.name.isdecimal() else self.model
        return self.kind.path.format(model=folder.name)

    def body(self, size: int) -> tuple[Path, dict[str, str]]:
        """The file that a request of so many rows sends, and its headers."""
        path = self.model / f"{self.kind.body}-{size}.json"
        if self.kind.body != "binary":
            return path, {"content-type": "application/json"}
        length = (self.model / f"binary-{size}.length").read_text()
        return path, {"content-type": "application/octet-stream", "inference-header-content-length": length}

    def check(self, size: int) -> str:
        """Send one request and compare: what is wrong with the answer, or an empty text."""
        path, headers = self.body(size)
        sent = path.read_bytes()
        try:
            status, received, length = self._request("POST", self.path, sent, headers, 30)
        except (OSError, http.client.HTTPException) as error:
            return f"no answer: {error}; {self._tail()}"
        if status != 200:
            return f"status {status}: {received[:200]!r}"
        if self.kind.echoes:
            return "" if received == sent else "the echo is not what was sent"
        expected = json.loads((self.model / f"expected-{size}.json").read_text())
        try:
            found = _unpacked(received, int(length)) if length else self.kind.probabilities(json.loads(received))
            good = len(found) == len(expected) and all(
                len(one) == len(other) and all(abs(a - b) <= TOLERANCE for a, b in zip(one, other, strict=True))
                for one, other in zip(found, expected, strict=True)
            )
        except (ValueError, LookupError, TypeError):
            good = False
        return "" if good else f"wrong answer: {received[:100]!r}"

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(), response.getheader("inference-header-content-length", "")
        finally:
            connection.close()

    def memory(self) -> tuple[int, int]:
        """Bytes of memory of the process and its children: PSS, which divides shared pages by their users, and RSS.

        Other programs that run from the same files make the first of the two smaller.
        """
        found = {"Pss:": 0, "Rss:": 0}
        for pid in _tree(self._process.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, *values = line.split()
                if name in found:
                    found[name] += int(values[0]) * 1024
        return found["Pss:"], found["Rss:"]

    def cpu(self) -> float:
        """Seconds of processor time that the process and its children have used."""
        ticks = 0
        for pid in _tree(self._process.pid):
            fields = _stat(pid)
            ticks += sum(map(int, fields[11:13])) if fields else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it, and what it started if that does not end by itself."""
        family = _tree(self._process.pid)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid, born in family.items():
            if _born(pid) == born:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def _unpacked(received: bytes, length: int) -> list[list[float]]:
    """The first binary tensor of an answer of the V2 protocol."""
    import struct

    output = json.loads(received[:length])["outputs"][0]
    rows, width = output["shape"]
    code = {"FP64": "d", "FP32": "f"}[output["datatype"]]
    values = struct.unpack(f"<{rows * width}{code}", received[length:])
    return [list(values[row * width : (row + 1) * width]) for row in range(rows)]


def free_port() -> int:
    """A port of the loopback address that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat after the name, proc(5): at 1 the parent, at 11 and 12 the processor time, at 19 the start."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _born(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields else ""


def _tree(root: int) -> dict[int, str]:
    """A process and all below it, each with its start time, so that a later one of its number is another."""
    parents = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = {root: _born(root)}
    grew = True
    while grew:
        below = {pid: one[19] for pid, one in parents.items() if one and int(one[1]) in found and pid not in found}
        found |= below
        grew = bool(below)
    return {pid: born for pid, born in found.items() if born}
