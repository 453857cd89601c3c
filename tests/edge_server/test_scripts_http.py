"""Entry scripts behind the whole server: the contract's answers as clients see them, and how the server ends."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.edge_server.support.scripts import INIT
from tests.support.running import Done
from tests.support.waiting import wait_until

SCRIPT = (
    INIT
    + """
import json, os, time

def run(data):
    print("scoring", data)
    if data.startswith("sleep"):
        time.sleep(float(data[5:]))
    if data == "held":
        while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
            time.sleep(0.01)
    if data == "crash":
        os._exit(1)
    if data == "set":
        return {1}
    return [data, os.getpid()]
"""
)


def write(folder: Path, code: str) -> Path:
    """A script in a source folder of its own."""
    source = folder / "source"
    source.mkdir()
    file = source / "score.py"
    file.write_text(code)
    return file


def serve_script(start: Callable[..., Any], file: Path, **env: str) -> Any:
    """Serve the script on a free port."""
    return start("--entry-script", file, "--port", "0", env=env)


def says(server: Any, text: str) -> bool:
    """Whether a line of the log has ``text`` in it."""
    return any(text in line for line in list(server.lines))


def test_a_script_finds_what_lies_beside_it_in_the_current_folder_or_in_its_source_directory(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, where in (("beside", "deployment"), ("current", "."), ("inner/deep", "src"), ("inner/__init__", "src")):
        file = tmp_path / where / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"word = {name!r}\n")
    (tmp_path / "data.txt").write_text("read")
    run = "def run(data):\n    return [word, current.word, open('data.txt').read(), os.environ['AML_APP_ROOT']]\n"
    for folder, line in (("deployment", "from beside import word"), ("src/entry", "from inner.deep import word")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "score.py").write_text(f"{line}\nimport current, os\n{INIT}{run}")
    monkeypatch.chdir(tmp_path)
    server = start("--entry-script", "deployment/score.py", "--port", "0")
    assert json.loads(server.request("POST", "/score", b"x")[2]) == ["beside", "current", "read", str(tmp_path)]
    for script in ("src/entry/score.py", "entry/score.py"):
        server = start("--entry-script", script, "--source-directory", "src", "--port", "0")
        assert json.loads(server.request("POST", "/score", b"x")[2])[:2] == ["inner/deep", "current"]


def test_a_source_directory_that_is_not_there_or_of_no_script_is_told(
    refused: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text(SCRIPT)
    missing = refused("--entry-script", tmp_path / "score.py", "--source-directory", tmp_path / "no")
    assert (missing.code, "no source directory at" in missing.stderr) == (3, True)
    other = refused("--model", tmp_path / "m.onnx", "--source-directory", tmp_path)
    assert (other.code, "--source-directory: is for --entry-script" in other.stderr) == (2, True)


def test_a_script_is_served_with_the_headers_of_the_contract(start: Callable[..., Any], tmp_path: Path) -> None:
    server = serve_script(start, write(tmp_path, SCRIPT))
    status, headers, body = server.request("POST", "/score", b"x")
    assert (status, json.loads(body)[0], headers["content-type"]) == (200, "x", "application/json")
    assert headers["x-ms-run-function-failed"] == "False"
    assert len(headers["x-ms-run-fn-exec-ms"].partition(".")[2]) == 3
    status, headers, body = server.request("GET", "/score?a=1")
    assert json.loads(body)[0] == '{"a": 1}'
    assert server.request("HEAD", "/score?a=1")[0] == 405
    assert server.request("PUT", "/score")[0] == 405
    status, headers, body = server.request("POST", "/score", b"set")
    assert (status, headers["x-ms-run-function-failed"]) == (500, "False")
    status, headers, body = server.request("POST", "/score", b"crash")
    assert (status, headers["x-ms-run-function-failed"]) == (500, "True")
    assert json.loads(body)["message"].startswith("An unexpected error occurred in scoring script")
    assert server.request("POST", "/score", b"y")[0] == 200
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.lines]
    printed = next(line for line in lines if line["message"] == "scoring x")
    assert (printed["logger"], printed["stream"], printed["worker"]) == ("script", "stdout", 0)


def test_health_answers_while_a_call_hangs_and_its_time_is_kept(start: Callable[..., Any], tmp_path: Path) -> None:
    server = serve_script(start, write(tmp_path, SCRIPT), SCORING_TIMEOUT_MS="4000")
    found: list[tuple[int, dict[str, str], bytes]] = []
    client = threading.Thread(target=lambda: found.append(server.request("POST", "/score", b"sleep60")))
    client.start()
    wait_until(lambda: says(server, "scoring sleep60"))
    assert server.request("GET", "/")[2] == b"Healthy"
    assert not found
    client.join()
    status, headers, body = found[0]
    assert (status, json.loads(body)) == (500, {"message": "Scoring timeout after 4000 ms", "status_code": 500})
    assert headers["x-ms-run-function-failed"] == "True"
    assert server.request("POST", "/score", b"x")[0] == 200


def test_a_call_whose_client_has_left_is_not_run(start: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path, SCRIPT)
    server = serve_script(start, file)
    with socket.create_connection(("127.0.0.1", server.port)) as first:
        first.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nheld")
        wait_until(lambda: says(server, "scoring held"))
        with socket.create_connection(("127.0.0.1", server.port)) as second:
            # Ends with a reset: an orderly end may come from a client that still waits.
            second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            second.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ngone")
            time.sleep(0.1)
        wait_until(lambda: b"\nedgepack_connections 2\n" in server.request("GET", "/metrics")[2])  # this and the first
        (file.parent / "go").touch()
        assert first.recv(100).startswith(b"HTTP/1.1 200")
    assert server.request("POST", "/score", b"after")[0] == 200
    assert server.stop() == 0
    assert not any("scoring gone" in line for line in server.lines)


def test_a_server_that_is_told_to_stop_finishes_what_a_script_began(start: Callable[..., Any], tmp_path: Path) -> None:
    server = serve_script(start, write(tmp_path, SCRIPT))
    found: list[int] = []
    client = threading.Thread(target=lambda: found.append(server.request("POST", "/score", b"sleep0.7")[0]))
    client.start()
    wait_until(lambda: says(server, "scoring sleep0.7"))
    assert server.stop() == 0
    client.join()
    assert found == [200]


def test_a_raw_script_gets_options_and_binary_bodies(start: Callable[..., Any], tmp_path: Path) -> None:
    code = """
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
def init(): pass
@rawhttp
def run(request):
    headers = {"Access-Control-Allow-Origin": "http://a", "X-Method": request.method, "Content-Type": "image/png"}
    return AMLResponse(request.data, 201, headers)
"""
    server = serve_script(start, write(tmp_path, code))
    status, headers, body = server.request("POST", "/score", b"\xff\x00")
    assert (status, body, headers["content-type"], headers["x-method"]) == (201, b"\xff\x00", "image/png", "POST")
    status, headers, _ = server.request("OPTIONS", "/score")
    assert (status, headers["access-control-allow-origin"], headers["x-method"]) == (201, "http://a", "OPTIONS")


def test_a_script_that_cannot_start_ends_the_server_with_a_code_of_its_own(
    refused: Callable[..., Done], tmp_path: Path
) -> None:
    file = write(tmp_path, "import os\n\ndef init():\n    os.environ['NOT_THERE']\n\ndef run(data): ...\n")
    outcome = refused("--entry-script", file, "--port", "0")
    assert outcome.code == 5
    for part in ("init()", "KeyError: 'NOT_THERE'", f"{file}, line 4"):
        assert part in outcome.stderr
    assert '"traceback"' in outcome.stderr


def test_a_server_that_is_told_to_stop_while_its_script_starts_ends_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, "import time\nprint('starting')\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "edge_server", "--entry-script", str(file), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        while "starting" not in server.stderr.readline():
            pass
        server.send_signal(signal.SIGTERM)
        server.wait(60)
