"""Real servers on loopback ports, and small real models for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.edge_server.support.server import START_SECONDS, Iris, Server, write_golden
from tests.support import forked
from tests.support.running import Done


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
    """As ``start``; the servers are stopped after the module."""
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
def refused() -> Callable[..., Done]:
    """Start a server that must not come up; return its exit code and output."""

    def starter(*arguments: str | Path, env: dict[str, str] | None = None) -> Done:
        return forked.finish("edge-server", *arguments, env=_environment(env))

    return starter


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


@pytest.fixture
def rewrite(converted: Path) -> Callable[..., Path]:
    """Write the converted model's manifest again with some fields replaced, golden vectors as they are."""

    def rewriter(vectors: dict[str, Any] | None = None, **changes: Any) -> Path:
        write_golden(converted, vectors or json.loads((converted / "golden.json").read_text()), **changes)
        return converted

    return rewriter
