"""A client that a public generator makes of our OpenAPI, offline, calls a running service."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.edge_server.support.models import save, tensor
from tests.edge_server.support.server import Server
from tests.support.running import run

pytest.importorskip("openapi_python_client")
FLOAT = TensorProto.FLOAT
# Whatever looks for a network finds none.
OFFLINE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
CALLS = """
import json, sys
from client.api.default import model_ready, run_ml_service, service_health_check
from client import AuthenticatedClient, Client
from client.models import Rows

url, key = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=key) as caller:
    found = run_ml_service.sync_detailed(client=caller, body=Rows(data=[[1.0, 2.0], [3.0, 4.5]]))
    refused = run_ml_service.sync_detailed(client=caller, body=Rows(data=[[1.0]]))
    ready = model_ready.sync(client=caller, name="echo")
with Client(base_url=url) as stranger:
    stopped = run_ml_service.sync_detailed(client=stranger, body=Rows(data=[[1.0, 2.0]]))
print(json.dumps([found.status_code, found.parsed, refused.status_code, refused.parsed.message, ready.ready,
                  stopped.status_code]))
"""


def test_a_generated_client_calls_a_service_with_its_key(tmp_path: Path, start: Callable[..., Server]) -> None:
    keys = run(sys.executable, "-m", "edge_server.security", "keys", "new", tmp_path / "keys.json")
    key = json.loads(keys)["primary"]
    nodes = [helper.make_node("Identity", ["data"], ["out"])]
    shape = [None, 2]
    (tmp_path / "echo").mkdir()
    save(tmp_path / "echo/model.onnx", nodes, [tensor("data", FLOAT, shape)], [tensor("out", FLOAT, shape)])
    model = {"name": "echo", "version": 1, "path": str(tmp_path / "echo"), "file": "model.onnx"}
    config = {"schema": "edgepack.service/v1", "host": "127.0.0.1", "port": 0, "models": [model]}
    (tmp_path / "service.json").write_text(json.dumps(config | {"auth": {"mode": "key", "file": "keys.json"}}))
    server = start("--config", tmp_path / "service.json")
    (tmp_path / "openapi.json").write_bytes(server.request("GET", "/swagger.json?version=3")[2])
    (tmp_path / "settings.yml").write_text("post_hooks: []\n")
    made = run(
        sys.executable, "-m", "openapi_python_client", "generate", "--path", tmp_path / "openapi.json",
        "--meta", "none", "--output-path", tmp_path / "client", "--config", tmp_path / "settings.yml", more=OFFLINE,
    )  # fmt: skip
    assert "Error" not in made
    url = f"http://127.0.0.1:{server.port}"
    (tmp_path / "calls.py").write_text(CALLS)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    answers = json.loads(run(sys.executable, tmp_path / "calls.py", url, key, env=environment))
    assert answers[:2] == [200, [[1.0, 2.0], [3.0, 4.5]]]
    assert answers[2] == 400
    assert "row 0 has 1 value" in answers[3]
    assert answers[4:] == [True, 401]
