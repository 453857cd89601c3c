"""A converted model as a folder: the layer's own bytes, all of them or none, and the server opens it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgepack.errors import NoSpaceError, NotFoundError, UsageError, VerificationError
from packager.commands.main import build_cli
from packager.models.conversion import convert
from packager.models.export import check_target, write_conversion
from packager.models.model import Conversion, Model
from packager.models.unpack import unpack_layers
from packager.workspaces.workspace import Workspace
from tests.packager.support.trained import ROWS, register
from tests.support.http_client import ask
from tests.support.unsandboxed import convert_here

NAMES = ["golden.json", "model.manifest.json", "model.onnx"]


@pytest.fixture(scope="module")
def done(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Model, Conversion]:
    folder = tmp_path_factory.mktemp("export")
    workspace = Workspace(folder / "workspace", folder / "cache")
    model = register(workspace, trained)
    with pytest.MonkeyPatch.context() as patch:
        convert_here(patch)
        return workspace, model, convert(workspace.models, model, cache=workspace.cache)


@contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    """Put other bytes into a blob for a while."""
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(before)


def test_the_command_writes_a_folder_that_the_server_serves(
    done: tuple[Workspace, Model, Conversion], tmp_path: Path
) -> None:
    workspace, _, conversion = done
    out = tmp_path / "iris-onnx"
    words = ["model", "convert", "-m", "iris", "-o", str(out), "--sample", str(tmp_path / "rows.json")]
    (tmp_path / "rows.json").write_text(json.dumps({"data": ROWS}))
    given = {"EDGEPACK_WORKSPACE": str(workspace.root), "EDGEPACK_CACHE": str(workspace.cache)}
    asked = CliRunner().invoke(build_cli(), [*words, "--output", "json"], env=given, catch_exceptions=False)
    assert asked.exit_code == 0
    answer = json.loads(asked.stdout)
    assert answer["path"] == str(out / "model.onnx")
    assert f"edge-server --model {out / 'model.onnx'}" in asked.stderr
    assert sorted(path.name for path in out.iterdir()) == NAMES
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert out.stat().st_mode & 0o777 == 0o755

    assert answer["layers"][0]["digest"] == str(conversion.layers[0].descriptor.digest)
    server = subprocess.Popen(
        [sys.executable, "-m", "edge_server", "--model", str(out / "model.onnx"), "--port", "0", "--host", "127.0.0.1"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        ready: dict[str, Any] = next(line for line in map(json.loads, server.stderr) if line.get("message") == "ready")
        assert _score(ready["port"]) == _expected(out)
    finally:
        server.terminate()
        server.communicate(timeout=60)


def _score(port: int) -> Any:
    answer = ask(port, "POST", "/score", json.dumps({"data": ROWS, "method": "predict"}))
    assert answer.status == 200
    return answer.json


def _expected(out: Path) -> list[int]:
    import numpy as np
    from onnxruntime import InferenceSession

    session = InferenceSession(out / "model.onnx")
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[session.get_inputs()[0].type]
    labels = session.run(None, {session.get_inputs()[0].name: np.array(ROWS, kind)})[0]
    return [int(label) for label in labels]


def test_an_empty_folder_is_taken_and_any_other_refused(
    done: tuple[Workspace, Model, Conversion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, model, conversion = done
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    path = write_conversion(workspace.store, model, conversion, tmp_path / "link")
    assert path == tmp_path / "link/model.onnx"
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == NAMES
    mask = os.umask(0o077)
    try:
        write_conversion(workspace.store, model, conversion, tmp_path / "private")
    finally:
        os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "private").iterdir()}
    assert modes == dict.fromkeys(NAMES, 0o600)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
    (tmp_path / "file").write_text("mine")
    for name, says in (("empty", "is not empty; give -o a new folder"), ("file", "is not a directory")):
        with pytest.raises(UsageError, match=says):
            write_conversion(workspace.store, model, conversion, tmp_path / name)
    with pytest.raises(NotFoundError, match="there is no such folder"):
        check_target(tmp_path / "absent/out")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is the current folder"):
        check_target(Path())
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "link", "private"]


def test_a_folder_is_refused_before_anything_is_converted(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    words = ["model", "convert", "-m", "absent", "-o", str(tmp_path / "full"), "--workspace", str(tmp_path / "w")]
    with pytest.raises(UsageError, match="is not empty"):
        CliRunner().invoke(build_cli(), words, catch_exceptions=False, standalone_mode=False)


def test_an_error_halfway_leaves_nothing(
    done: tuple[Workspace, Model, Conversion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, model, conversion = done

    def full(*arguments: Any, **named: Any) -> None:
        unpack_layers(*arguments, **named)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("packager.models.export.unpack_layers", full)
    with pytest.raises(NoSpaceError):
        write_conversion(workspace.store, model, conversion, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_goes_and_what_a_living_one_has_stays(
    done: tuple[Workspace, Model, Conversion], tmp_path: Path
) -> None:
    workspace, model, conversion = done
    program = (
        "import os, sys, fcntl\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\nfcntl.flock(fd, fcntl.LOCK_EX)\nprint('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    stale, living = tmp_path / f".out.{'0' * 12}.tmp", tmp_path / f".out.{'1' * 12}.tmp"
    (stale / "tree").mkdir(parents=True)
    living.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", program, str(living)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        write_conversion(workspace.store, model, conversion, tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "out"]
        other.communicate()


@pytest.mark.parametrize("damage", ["cut", "flipped", "appended", "header"])
def test_a_layer_that_is_not_what_its_digest_says_is_not_written(
    done: tuple[Workspace, Model, Conversion], tmp_path: Path, damage: str
) -> None:
    workspace, model, conversion = done
    path = workspace.store.path(conversion.layers[-1].descriptor.digest)
    data = path.read_bytes()
    assert data[:2] == b"\x1f\x8b"
    other = {
        "cut": data[:-1],
        "flipped": data[:99] + bytes([data[99] ^ 1]) + data[100:],
        "appended": data + b"\0",
        "header": data[:9] + bytes([data[9] ^ 1]) + data[10:],  # no checksum of gzip's covers it (RFC 1952, 2.3.1)
    }
    with changed(path, other[damage]), pytest.raises(VerificationError) as error:
        write_conversion(workspace.store, model, conversion, tmp_path / "out")
    assert error.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []
