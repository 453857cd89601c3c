"""Real servers on loopback ports, and small real models for them."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

START_SECONDS = 60


@dataclass
class Server:
    """A running server: its process, its port, and the log lines so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    port: int = 0
    follower: threading.Thread | None = None

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """Send one request on its own connection; return status, headers by lower-case name, and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, headers, response.read()
        finally:
            connection.close()

    def score(self, document: Any) -> tuple[int, Any]:
        """Post a document to /score; return status and parsed answer."""
        status, _, body = self.request("POST", "/score", json.dumps(document).encode())
        return status, json.loads(body)

    def stop(self) -> int:
        """Ask the server to stop as an engine does; return its exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=START_SECONDS)
        assert self.follower is not None
        self.follower.join(START_SECONDS)
        return code


def _environment(extra: dict[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEPACK_")}
    return {**kept, **(extra or {})}


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Start a server with these arguments and wait until it is ready; all are stopped after the test."""
    with _starter() as starter:
        yield starter


@pytest.fixture(scope="module")
def start_for_module() -> Iterator[Callable[..., Server]]:
    """As `start`; the servers are stopped after the module."""
    with _starter() as starter:
        yield starter


@contextmanager
def _starter() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def starter(*arguments: str | Path, env: dict[str, str] | None = None) -> Server:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_server", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(env),
        )
        server = Server(process)
        servers.append(server)
        ready = threading.Event()

        def follow() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                server.lines.append(line)
                if '"message":"ready"' in line:
                    server.port = json.loads(line)["port"]
                    ready.set()
            ready.set()

        server.follower = threading.Thread(target=follow, daemon=True)
        server.follower.start()
        assert ready.wait(START_SECONDS)
        assert server.port, f"the server did not start: {server.lines}"
        return server

    yield starter
    for server in servers:
        server.process.kill()
        server.process.wait()
        assert server.process.stderr is not None
        assert server.follower is not None
        server.follower.join(START_SECONDS)
        server.process.stderr.close()


@pytest.fixture
def refused() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start a server that must not come up; return its exit code and output."""

    def starter(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_server", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
            env=_environment(env),
        )

    return starter


@dataclass(frozen=True)
class Iris:
    """A classifier in its own framework, and its ONNX form."""

    model: Any
    onnx: bytes
    rows: list[list[float]]


@pytest.fixture(scope="session")
def iris() -> Iris:
    """A forest trained on iris, with plain arrays of probabilities."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    table, labels = load_iris(return_X_y=True)
    model = RandomForestClassifier(10, random_state=0).fit(table, labels)
    graph = to_onnx(model, table[:1].astype(np.float32), options={id(model): {"zipmap": False}}, target_opset=18)
    return Iris(model, graph.SerializeToString(), table[::30].tolist())


@pytest.fixture(scope="session")
def iris_file(tmp_path_factory: pytest.TempPathFactory, iris: Iris) -> Path:
    """The forest's ONNX file, without a manifest."""
    path = tmp_path_factory.mktemp("iris") / "iris.onnx"
    path.write_bytes(iris.onnx)
    return path


@pytest.fixture
def converted(tmp_path: Path, iris: Iris) -> Path:
    """A folder as the converter leaves it: the forest, its manifest, its golden vectors."""
    folder = tmp_path / "iris" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(iris.onnx)
    golden = {
        "inputs": {"features": iris.rows},
        "outputs": {
            "label": iris.model.predict(iris.rows).tolist(),
            "probabilities": iris.model.predict_proba(iris.rows).tolist(),
        },
    }
    write_golden(folder, golden)
    return folder


def write_golden(folder: Path, vectors: dict[str, Any], **changes: Any) -> None:
    """Write golden.json and a manifest that names its digest; `changes` replace fields of the manifest."""
    content = json.dumps(vectors).encode()
    (folder / "golden.json").write_bytes(content)
    manifest = {
        "schema": "edgepack.model/v1",
        "source": {"framework": "ScikitLearn", "version": "1.0", "digest": "sha256:" + "0" * 64, "recipe": "x"},
        "file": "model.onnx",
        "opset": {"": 18, "ai.onnx.ml": 3},
        "minimum_runtime": "1.17",
        "inputs": [
            {
                "name": "features",
                "graph_name": "X",
                "dtype": "float32",
                "shape": [None, 4],
                "columns": ["sepal length", "sepal width", "petal length", "petal width"],
            }
        ],
        "outputs": [
            {
                "name": "label",
                "graph_name": "label",
                "role": "label",
                "dtype": "int64",
                "shape": [None],
                "classes": [0, 1, 2],
            },
            {
                "name": "probabilities",
                "graph_name": "probabilities",
                "role": "probabilities",
                "dtype": "float32",
                "shape": [None, 3],
            },
        ],
        "methods": {
            "default": "predict_proba",
            "predict": ["label"],
            "predict_proba": ["probabilities"],
            "both": ["label", "probabilities"],
        },
        "rejects": {"nan": True, "infinity": True},
        "golden": {
            "file": "golden.json",
            "digest": "sha256:" + hashlib.sha256(content).hexdigest(),
            "rtol": 1e-4,
            "atol": 1e-5,
        },
        "parity": {"rows": 5, "max_abs": 0.0, "max_rel": 0.0, "label_agreement": 1.0, "passed": True},
    }
    (folder / "model.manifest.json").write_text(json.dumps({**manifest, **changes}))


@pytest.fixture
def rewrite(converted: Path) -> Callable[..., Path]:
    """Write the converted model's manifest again with some fields replaced, golden vectors as they are."""

    def rewriter(vectors: dict[str, Any] | None = None, **changes: Any) -> Path:
        write_golden(converted, vectors or json.loads((converted / "golden.json").read_text()), **changes)
        return converted

    return rewriter
