"""A running server, and a converted model for it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.http_client import Answer, ask

START_SECONDS = 60


@dataclass
class Server:
    """A running server: its process, its port, and the log lines so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    port: int = 0
    follower: threading.Thread | None = None

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send one request on its own connection."""
        return ask(self.port, method, path, body)

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


@dataclass(frozen=True)
class Iris:
    """A classifier in its own framework, and its ONNX form."""

    model: Any
    onnx: bytes
    rows: list[list[float]]


def write_golden(folder: Path, vectors: dict[str, Any], **changes: Any) -> None:
    """Write golden.json and a manifest that names its digest; ``changes`` replace fields of the manifest."""
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
