"""What the tests of the whole server share: documents and raw bytes that a client sends, and service.json files."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

from tests.edge_server.support import models
from tests.support.http_client import Answer, ask

Server = Any  # conftest.Server
ROW = [5.1, 3.5, 1.4, 0.2]
JSON = {"content-type": "application/json"}


def post(server: Server, document: Any, path: str = "/score", **headers: str) -> Answer:
    """Post a document as JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(server.port, "POST", path, json.dumps(document), JSON | named)


def send(server: Server, data: bytes, *, half: bool = False, seconds: float = 20) -> bytes:
    """Bytes as they are; everything that comes back until the server closes. ``half``: the client ends its side."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as client:
        received = b""
        try:
            client.sendall(data)
            if half:
                client.shutdown(socket.SHUT_WR)
            while part := client.recv(1 << 16):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


def statuses(received: bytes) -> list[int]:
    """The status of each answer among those bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def write_script(folder: Path, code: str, name: str = "score.py") -> Path:
    """An entry script in a source folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(code, encoding="utf-8")
    return folder / name


def write_iris(folder: Path, onnx: bytes) -> Path:
    """The forest with a manifest: columns by name, labels and probabilities, no missing values."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(onnx)
    columns = ["sepal length", "sepal width", "petal length", "petal width"]
    models.manifest(
        folder,
        [{"name": "features", "graph_name": "X", "dtype": "float32", "shape": [None, 4], "columns": columns}],
        [
            {"name": "label", "graph_name": "label", "role": "label", "dtype": "int64", "shape": [None],
             "classes": [0, 1, 2]},
            {"name": "probabilities", "graph_name": "probabilities", "role": "probabilities", "dtype": "float32",
             "shape": [None, 3]},
        ],
        methods={"default": "predict_proba", "predict": ["label"], "predict_proba": ["probabilities"]},
        rejects={"nan": True, "infinity": True},
    )  # fmt: skip
    return folder


def write_config(path: Path, models: dict[str, Path], **sections: Any) -> Path:
    """A service.json for those models, by ``name:version``."""
    named = [
        {"name": name.partition(":")[0], "version": int(name.partition(":")[2]), "path": str(folder),
         "file": "model.onnx"}
        for name, folder in models.items()
    ]  # fmt: skip
    document = {"schema": "edgepack.service/v1", "host": "127.0.0.1", "port": 0, "models": named, **sections}
    path.write_text(json.dumps(document))
    return path
