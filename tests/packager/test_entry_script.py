"""An entry script in an image: what is shipped, where, and what the server is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import NotFoundError, UsageError
from edgepack.limits import LIMITS
from edgepack.names import ModelRef
from packager.images.build import BuildOptions
from packager.images.plan import FilesLayer, service_config
from packager.inference import entry_script, source_size
from packager.inference.entry_script import read_entry_script
from packager.layers.folder import LeftOut
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


def test_an_image_with_a_script_has_the_models_as_they_were_registered(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packager.images.build.scoring_wheels", lambda *_, **__: ())  # which the tiny base cannot load
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


# ---- Large folders --------------------------------------------------------------------------------------------------


def sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def test_a_history_of_a_gigabyte_is_left_out_without_a_look_into_it(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse(sources / ".git/objects/pack/pack-1.pack", 1 << 30)
    looked: list[str] = []
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: looked.append(str(path)) or listed(path))
    script = read_entry_script("score.py", sources)
    assert not [path for path in looked if ".git" in path]
    assert LeftOut(".git", "version-control") in script.left_out


def test_a_folder_of_data_is_refused_with_its_largest_parts(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sparse(sources / "data/train/a.bin", 80 << 20)
    sparse(sources / "weights.bin", 40 << 20)
    read_entry_script("score.py", sources)
    assert "ships 125.8 MB, the most of it in data/ (83.9 MB), weights.bin (41.9 MB), score.py" in caplog.text
    sparse(sources / "data/train/a.bin", 2 << 30)
    looked: list[Path] = []
    monkeypatch.setattr(entry_script, "_check_keys", lambda tree, above: looked.append(above))
    with pytest.raises(UsageError, match=r"ships 2\.2 GB, the most of it in data/ \(2\.1 GB\), weights\.bin") as error:
        read_entry_script("score.py", sources)
    assert ".edgepackignore" in str(error.value)
    assert looked == []
    (sources / ".edgepackignore").write_text("data\n")
    read_entry_script("score.py", sources)


def test_a_home_folder_is_named_as_one(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(sources))
    read_entry_script("score.py", sources)
    assert "is your home folder; it ships" in caplog.text
    monkeypatch.setattr(source_size, "LIMITS", replace(LIMITS, source_files=20))
    for number in range(30):
        sparse(sources / f"photos/{number}.jpg", 10)
    with pytest.raises(UsageError, match=r"is your home folder, and ships more than 20 files, most .* photos/ \("):
        read_entry_script("score.py", sources)


def test_the_whole_file_system_is_refused() -> None:
    with pytest.raises(UsageError, match="is the whole file system"):
        read_entry_script(__file__.lstrip("/"), Path("/"))


def test_a_link_out_of_the_folder_is_refused_by_name(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").touch()
    (sources / "helpers/link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UsageError, match=r"helpers/link\.txt: is a link that leads out of churn-code, or nowhere"):
        read_entry_script("score.py", sources)
    (sources / ".edgepackignore").write_text("helpers/link.txt\n")
    assert read_entry_script("score.py", sources).left_out
