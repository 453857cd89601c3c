"""``edgepack serve``: a registered model, or a script, served in a terminal without an image."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

from tests.integration.support.images import Commands, Site, assert_scores
from tests.support.http_client import ask
from tests.support.ports import free_port

SCRIPT = (
    "import os\n\n\ndef init():\n    pass\n\n\ndef run(data):\n    return os.listdir(os.environ['AZUREML_MODEL_DIR'])\n"
)


def serve(commands: Commands, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        commands.argv("edgepack", "serve", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=commands.environment(),
    )  # fmt: skip


def ended(process: subprocess.Popen[str], number: int) -> int:
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def told(process: subprocess.Popen[str]) -> dict[str, str]:
    """The answer, which comes when it is ready."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            break
    found: dict[str, str] = json.loads(text)
    return found


def test_a_model_is_served_until_ctrl_c(site: Site) -> None:
    port = free_port()
    with serve(site.commands, "mlp:1", "--port", port) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            assert told(process) == {"score": f"{address}/score", "docs": f"{address}/docs"}
            assert_scores(port, site.models[1])
            assert ended(process, signal.SIGINT) == 0
        finally:
            process.kill()


def test_a_script_is_run_where_it_is_beside_its_models(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "score.py"
    script.write_text(SCRIPT)
    port = free_port()
    with serve(site.commands, "mlp:1", "--entry-script", script, "--port", port) as process:
        try:
            told(process)
            assert ask(port, "POST", "/score", "1").json == [site.models[1].name]
            assert ended(process, signal.SIGTERM) == 0
        finally:
            process.kill()


def test_what_cannot_be_served_is_said(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "score.py"
    script.write_text("def init():\n    1 / 0\n\n\ndef run(data):\n    return data\n")
    assert "name a model" in site.commands.edgepack("serve", code=2).stderr
    assert "absent" in site.commands.edgepack("serve", "absent", code=3).stderr
    assert "there is no such file" in site.commands.edgepack("serve", "--entry-script", "none.py", code=3).stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = site.commands.edgepack("serve", "mlp:1", "--port", other.getsockname()[1], code=2)
    assert "is taken by another program" in done.stderr
