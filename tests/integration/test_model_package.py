"""A package made from Python, pulled to a real engine, run as the document runs it, and asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import packager
from packager.model import InferenceConfig, Model
from tests.integration.support.images import write_model
from tests.support.http_client import ask
from tests.support.running import run
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.real("dockerd", "docker", "ip"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


def test_a_pulled_package_serves_score(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", engine)
    Path("score.py").write_text("def init(): pass\ndef run(data): return {'asked': data}\n")
    ws = packager.Workspace(path="workspace")
    model = ws.models.register("mlp", write_model(tmp_path / "mlp.onnx", 1))
    package = Model.package(ws, [model], InferenceConfig("score.py"), image_label="7")
    package.wait_for_creation()
    package.pull()
    assert capsys.readouterr().out.endswith("Status: Downloaded newer image for package:7\n")
    listed = run("docker", "--host", engine, "images", "--format", "{{.Repository}}:{{.Tag}}")
    assert "package:7" in listed.split()
    port = free_port()
    run("docker", "--host", engine, "run", "-d", "-p", f"{port}:5001", "--name", "mycontainer", "package:7")
    try:
        wait_until(lambda: _is_healthy(port))
        answer = ask(port, "POST", "/score", b"[1, 2]")
        assert (answer.status, json.loads(answer.body)) == (200, {"asked": "[1, 2]"})
    finally:
        run("docker", "--host", engine, "rm", "-f", "mycontainer")


def _is_healthy(port: int) -> bool:
    try:
        return ask(port, "GET", "/").status == 200
    except OSError:  # it does not listen yet
        return False
