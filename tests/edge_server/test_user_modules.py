"""Modules beside an entry script are imported, whatever their names, or refused by name before the service starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_server.config.values import ScriptConfig, ServiceConfig
from edge_server.errors import ScriptError
from edge_server.scripts.hidden_modules import is_in
from tests.edge_server.support.scripts import json_of, serve_config
from tests.edge_server.support.server import Server
from tests.support.running import Done, finish, python
from tests.support.user_modules import USER_MODULES, UserModules

SCALER = "class Scaler:\n    def __init__(self, factor):\n        self.factor = factor\n"
OPENS = """
import pickle
from pathlib import Path

import joblib


def init():
    global scalers
    folder = Path(__file__).parent
    scalers = [pickle.loads((folder / "scaler.pkl").read_bytes()), joblib.load(folder / "scaler.joblib")]


def run(data):
    return [scaler.factor for scaler in scalers]
"""


@pytest.mark.parametrize("case", USER_MODULES, ids=lambda case: case.name)
def test_a_users_module_is_imported_or_refused_by_name(tmp_path: Path, case: UserModules) -> None:
    folder = case.write(tmp_path)
    # As --entry-script has it: on a laptop nothing above the script's folder is the service's.
    config = ServiceConfig((), "127.0.0.1", 0, ScriptConfig(folder / "score.py", folder), root=folder)
    if not case.refused:
        with serve_config(config) as service:
            assert json_of(service.ask("")) == 42
        return
    with pytest.raises(ScriptError) as error, serve_config(config):
        pass
    assert error.value.exit_code == 5
    assert str(error.value).startswith(f"{folder}")
    assert case.refused in str(error.value)
    assert str(error.value).endswith("; rename it")


@pytest.mark.parametrize("name", ["scoring", "packager", "converters", "edgepack"])
def test_a_model_is_unpickled_with_classes_of_a_users_package(tmp_path: Path, name: str) -> None:
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "features.py").write_text(SCALER)
    (tmp_path / "score.py").write_text(OPENS)
    code = (
        f"import joblib, pickle; from {name}.features import Scaler; "
        "open('scaler.pkl', 'wb').write(pickle.dumps(Scaler(3))); joblib.dump(Scaler(4), 'scaler.joblib')"
    )
    python(code, cwd=tmp_path)
    config = ServiceConfig((), "127.0.0.1", 0, ScriptConfig(tmp_path / "score.py", tmp_path), root=tmp_path)
    with serve_config(config) as service:
        assert json_of(service.ask("")) == [3, 4]


def test_the_command_refuses_by_name_and_ends_with_5(tmp_path: Path, refused: Callable[..., Done]) -> None:
    (tmp_path / "logging.py").write_text("level = 1\n")
    (tmp_path / "score.py").write_text("\nimport logging\n\n\ndef init(): ...\n\n\ndef run(data): ...\n")
    ended = refused("--entry-script", tmp_path / "score.py", "--port", "0")
    assert ended.code == 5
    assert ended.stderr.splitlines()[-1] == (
        f"edge-server: {tmp_path}/logging.py cannot be imported in {tmp_path}/score.py, line 2: "
        "the standard library's module logging has its name; rename it"
    )


def test_a_call_that_imports_a_hidden_module_fails_and_does_nothing_else_instead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "    try:\n        from logging import double\n    except Exception:\n        return 0\n"
    (tmp_path / "logging.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "score.py").write_text(f"def init(): ...\n\n\ndef run(data):\n{text}")
    config = ServiceConfig((), "127.0.0.1", 0, ScriptConfig(tmp_path / "score.py", tmp_path), root=tmp_path)
    with serve_config(config) as service:
        assert service.ask("").status == 500
    assert "the standard library's module logging has its name; rename it" in caplog.text


def test_a_python_below_the_source_directory_is_not_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", f"{tmp_path}/env")
    assert not is_in(f"{tmp_path}/env/lib/python3.11", str(tmp_path))
    assert not is_in(f"{tmp_path}/env/lib/python3.11/os.py", str(tmp_path))
    assert not is_in(f"{tmp_path}/other/lib/site-packages/packager", str(tmp_path))
    assert is_in(f"{tmp_path}/environment/os.py", str(tmp_path))
    assert is_in(f"{tmp_path}/env/lib/src/os.py", f"{tmp_path}/env/lib/src")


def test_the_server_starts_in_a_folder_whose_modules_have_names_of_the_standard_library(tmp_path: Path) -> None:
    for name in ("logging", "http", "socket", "json", "argparse", "signal", "orjson", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is the user\\'s')\n")
    (tmp_path / "score.py").write_text("def init():\n    raise ValueError('reached')\n\n\ndef run(data): ...\n")
    command = [sys.executable, "-m", "edge_server", "--entry-script", "score.py", "--port", "0"]
    ended = finish(*command, cwd=tmp_path)
    assert ended.code == 5, ended.stderr
    assert "ValueError: reached" in ended.stderr


def test_the_command_starts_where_python_m_cannot(tmp_path: Path) -> None:
    # What python -m itself imports before the server: only the command, which lies elsewhere, is free of it.
    for name in ("types", "functools", "collections/__init__", "importlib/__init__", "runpy"):
        (tmp_path / f"source/{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"source/{name}.py").write_text("raise RuntimeError('this is the user\\'s')\n")
    (tmp_path / "source/score.py").write_text("def init():\n    raise ValueError('reached')\n\n\ndef run(data): ...\n")
    (tmp_path / "edge-server").write_text("import sys\nfrom edge_server.__main__ import command\nsys.exit(command())\n")
    command = [sys.executable, tmp_path / "edge-server", "--entry-script", "score.py", "--port", "0"]
    ended = finish(*command, cwd=tmp_path / "source")
    assert ended.code == 5, ended.stderr
    assert "ValueError: reached" in ended.stderr


def test_a_script_served_from_its_own_folder_finds_its_packages(tmp_path: Path, start: Callable[..., Server]) -> None:
    folder = next(case for case in USER_MODULES if case.name == "folder packager").write(tmp_path / "a b")
    server = start("--entry-script", folder / "score.py", "--port", "0")
    assert server.score({}) == (200, 42)
