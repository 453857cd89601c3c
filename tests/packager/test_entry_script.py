"""An entry script in an image: what is shipped, where, and what the server is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepack.errors import NotFoundError, UsageError
from edgepack.names import ModelRef
from packager.images.build import BuildOptions
from packager.images.plan import FilesLayer, service_config
from packager.inference.entry_script import read_entry_script
from tests.packager.support.bases import AMD64
from tests.packager.support.workspaces import make_workspace

SCRIPT = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "churn-code"
    (folder / "helpers" / "__pycache__").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "score.py").write_text(SCRIPT)
    (folder / "helpers" / "__init__.py").write_text("")
    (folder / "helpers" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (folder / ".git" / "HEAD").write_text("ref")
    return folder


def test_a_script_alone_lies_in_the_app_folder(sources: Path) -> None:
    script = read_entry_script(str(sources / "score.py"), None)
    assert (script.folder, script.file) == ("var/azureml-app", "score.py")
    assert [entry.path for entry in script.entries] == ["var/azureml-app/score.py"]


def test_a_source_directory_is_shipped_whole_under_its_own_name(sources: Path) -> None:
    script = read_entry_script("score.py", sources)
    assert (script.folder, script.file) == ("var/azureml-app/churn-code", "score.py")
    files = [entry.path for entry in script.entries if entry.kind == "file"]
    assert files == ["var/azureml-app/churn-code/helpers/__init__.py", "var/azureml-app/churn-code/score.py"]


@pytest.mark.parametrize(
    ("script", "whole", "error", "says"),
    [
        ("score.txt", True, UsageError, "must be a .py file"),
        ("class.py", True, UsageError, "must be a .py file"),
        ("my-score.py", True, UsageError, "must be a .py file"),
        ("../score.py", True, UsageError, "inside of the source directory"),
        ("absent.py", True, NotFoundError, "there is no such file"),
        ("absent.py", False, NotFoundError, "there is no such file"),
    ],
)
def test_a_script_that_could_not_be_imported_is_refused(
    sources: Path, script: str, whole: bool, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        read_entry_script(script, sources if whole else None)


def test_an_image_with_a_script_has_the_models_as_they_were_registered(sources: Path, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    script = read_entry_script("score.py", sources)
    options = BuildOptions("tiny:1", script=script)
    (plan,) = workspace.builder.plan([ModelRef("churn")], (AMD64,), options)
    kinds = [layer.kind for layer in plan.layers]
    assert kinds[kinds.index("server") :] == ["server", "code", "config", "model"]
    config = next(layer for layer in plan.layers if layer.kind == "config")
    assert isinstance(config, FilesLayer)
    content = config.entries[0].content
    assert content is not None
    with content() as stream:
        document = json.load(stream)
    assert document["entry_script"] == {"file": "score.py", "source_directory": "../../var/azureml-app/churn-code"}
    assert document["models"][0]["file"] == ""


def test_a_script_needs_no_model(sources: Path) -> None:
    document = json.loads(service_config((), read_entry_script("score.py", sources)))
    assert document["models"] == []
