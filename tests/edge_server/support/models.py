"""Small models made on the spot, and what they answer to a request, without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from edge_server.errors import BadRequest
from edge_server.http.messages import Request
from edge_server.models.loading import load_model
from edge_server.models.running.onnx_model import OnnxModel


def tensor(name: str, kind: int, shape: list[Any] | None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any] | None = None
) -> Path:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants or [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def echo(path: Path, kind: int, shape: list[Any] | None) -> OnnxModel:
    """A model without a manifest that answers with what it is given."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    # Apart from any manifest.
    folder = path / f"echo-{kind}-{shape}"
    folder.mkdir(exist_ok=True)
    return load_model(save(folder / "echo.onnx", nodes, [tensor("x", kind, shape)], [tensor("y", kind, shape)]), 1)


def request(body: Any, kind: str | None = "application/json", query: str = "") -> Request:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = [] if kind is None else [(b"content-type", kind.encode())]
    return Request("POST", "/score", "/score", query, headers, content)


def answer(model: OnnxModel, body: Any, kind: str | None = "application/json", query: str = "") -> Any:
    call = model.read(request(body, kind, query))
    return json.loads(call.write(model.run(call.arrays, call.outputs)).body)


def refusal(model: OnnxModel, body: Any, kind: str | None = "application/json", query: str = "") -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        answer(model, body, kind, query)
    return caught.value


def manifest(folder: Path, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], **more: Any) -> None:
    document = {
        "schema": "edgepack.model/v1",
        "file": "model.onnx",
        "inputs": inputs,
        "outputs": outputs,
        "methods": {"default": "all", "all": [output["name"] for output in outputs]},
        "rejects": {"nan": False, "infinity": False},
        "golden": None,
        **more,
    }
    (folder / "model.manifest.json").write_text(json.dumps(document))
