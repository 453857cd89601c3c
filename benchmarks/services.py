"""Services on this machine: how long a deployment and a reload take, beside what ``edge-agent apply`` itself needs.

Limits: a registered model without code is healthy within 1.5 s more than ``edge-agent apply`` needs for the same
switch, with everything cached; a changed script answers within 1 s of the command, and at least 10 times as soon as by
``docker build`` and ``docker run``. Services are processes; what is measured is the whole command, or until the answer.

``python -m benchmarks.services``
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.lab import edgepack, median, seconds, write_model
from tests.support.http_client import ask
from tests.support.ports import free_port

ROUNDS = 5
SCRIPT = "def init():\n    pass\n\n\ndef run(data):\n    return {number}\n"


def main() -> None:
    """Run everything and print it."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["EDGEPACK_RUNTIME"] = "process"
    folder = Path(tempfile.mkdtemp(prefix="edb-"))
    folder.chmod(0o755)
    workspace = folder / "w"
    try:
        for version in (1, 2):
            write_model(folder / "m.onnx", version)
            edgepack(workspace, "model", "register", "-n", "m", "-p", str(folder / "m.onnx"))
        deployments(workspace)
        reloads(workspace, folder / "score.py")
    finally:
        for one in edgepack(workspace, "service", "list"):
            edgepack(workspace, "service", "delete", one["name"])
        shutil.rmtree(folder)


def deployments(workspace: Path) -> None:
    """A switch by ``edge-agent apply``, and the same by ``service deploy``, one after the other."""

    def deploy(version: int) -> Any:
        return edgepack(workspace, "service", "deploy", "-n", "bench", "-m", f"m:{version}", "--overwrite")

    second = deploy(2)
    deploy(1)
    desired = workspace / "desired.json"
    one = {"name": "bench", "image": second["image"], "port": second["port"]}
    desired.write_text(json.dumps({"schema": "edgepack.desired/v1", "services": [one]}))
    agent = [str(Path(sys.executable).with_name("edge-agent")), "--state-dir", str(workspace / "device")]
    apply = [*agent, "--runtime", "process", "apply", str(desired), "--allow-unsigned"]
    applied, deployed = [], []
    for _ in range(ROUNDS):
        applied.append(seconds(lambda: subprocess.run(apply, check=True, capture_output=True)))
        deployed.append(seconds(lambda: deploy(1)))
    over = statistics.median(deployed) - statistics.median(applied)
    print(f"edge-agent apply, a switch            {median(applied)}")
    print(f"service deploy, the same, all cached  {median(deployed)}   {over / 1.5:.2f} of 1.5 s more")


def reloads(workspace: Path, script: Path) -> None:
    """From ``service reload`` to the first answer of the changed script."""
    script.write_text(SCRIPT.format(number=0))
    port = free_port()
    edgepack(workspace, "service", "deploy", "-n", "scripted", "--entry-script", str(script), "--port", str(port))
    spent = []
    for number in range(1, ROUNDS + 1):
        script.write_text(SCRIPT.format(number=number))
        begun = time.perf_counter()
        edgepack(workspace, "service", "reload", "scripted")
        answer = ask(port, "POST", "/score", "[]", {"Content-Type": "application/json"})
        spent.append(time.perf_counter() - begun)
        assert answer.json == number, answer.body
    print(f"service reload, to the answer         {median(spent)}   {statistics.median(spent):.2f} of 1 s")


if __name__ == "__main__":
    main()
