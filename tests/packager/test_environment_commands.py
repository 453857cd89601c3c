"""``edgepack environment`` as a user meets it: made of each kind of file, listed, shown, written again, deleted."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from packager.commands.main import build_cli
from packager.environments.sources import from_conda_file
from packager.workspaces.workspace import Workspace
from tests.packager.support.environments import SPECIFICATION
from tests.support.typed import Ended, Type, typist

LOCK = "numpy==1.26.4 \\\n    --hash=sha256:" + "a" * 64 + " \\\n    --hash=sha256:" + "b" * 64 + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files of every kind."""
    return filled(tmp_path / "a folder")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a workspace ``ws`` that has the environment ``kept``; for commands that fail."""
    folder = filled(tmp_path_factory.mktemp("mistakes"))
    workspace = Workspace(folder / "ws", folder / "cache")
    workspace.environments.register(from_conda_file(folder / "conda.yml", "kept"))
    return folder


def filled(folder: Path) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "conda.yml").write_text(SPECIFICATION)
    (folder / "requirements.txt").write_text(f"--extra-index-url https://two.example/simple\n{LOCK}flask>=2\n")
    (folder / "Dockerfile").write_text("FROM python:3.11-slim\nRUN true\n")
    (folder / "model/MLmodel").write_text("flavors: {python_function: {env: {virtualenv: python_env.yaml}}}")
    (folder / "model/python_env.yaml").write_text("python: 3.10.12\ndependencies: [mlflow==2.9.2]\n")
    return folder


@pytest.fixture
def edgepack(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(folder / "ws"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(folder / "cache"))
    return typist(build_cli, "edgepack", monkeypatch, capfd)


def done(ended: Ended) -> Any:
    """The JSON answer of a command that succeeded."""
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


CREATED = {
    "-f conda.yml": ("==3.6.2", ["azureml-defaults>=1.0.45", "inference-schema[numpy-support]"]),
    "-f requirements.txt": (
        "==3.11.*",
        [f"numpy==1.26.4 --hash=sha256:{'a' * 64} --hash=sha256:{'b' * 64}", "flask>=2"],
    ),
    "-f requirements.txt --python 3.12 --package scipy": (
        "==3.12.*",
        [f"numpy==1.26.4 --hash=sha256:{'a' * 64} --hash=sha256:{'b' * 64}", "flask>=2", "scipy"],
    ),
    "--mlflow model": ("==3.10.12", ["mlflow==2.9.2"]),
    "--mlflow model --package numpy": ("==3.10.12", ["mlflow==2.9.2", "numpy"]),
    "--package numpy>=2 --package 'flask; sys_platform == \"linux\"'": (
        "==3.11.*",
        ["numpy>=2", 'flask; sys_platform == "linux"'],
    ),
    "--python 3.12": ("==3.12.*", []),
    "--base-image python:3.11-slim": (None, []),
    "--base-dockerfile Dockerfile --package numpy": (None, ["numpy"]),
}


@pytest.mark.parametrize(("words", "found"), CREATED.items(), ids=CREATED)
def test_an_environment_is_created_and_shown_the_same(
    edgepack: Type, words: str, found: tuple[str | None, list[str]]
) -> None:
    made = done(edgepack("environment", "create", "-n", "mine", *shlex.split(words), "--output", "json"))
    assert (made["python"], made["pip"]["requirements"]) == found
    assert (made["id"], made["schema"]) == ("mine:1", "edgepack.environment/v1")
    assert done(edgepack("environment", "show", "mine", "--output", "json")) == made
    assert made in done(edgepack("environment", "list", "--output", "json"))
    for form, file in (("json", "again.json"), ("conda", "again.yml")):
        shown = edgepack("environment", "show", "mine:1", "--format", form)
        assert (shown.code, shown.err) == (0, "")
        Path(file).write_text(shown.out)
        again = edgepack("environment", "create", "-n", "mine", "-f", file, "--output", "json")
        if form == "json":
            assert again.err == "mine:1 asks for the same already\n"
            assert done(again) == made
        elif made["base"] == {"image": None, "dockerfile": None, "registry": {"address": None, "username": None}}:
            assert done(again)["pip"] == made["pip"]


def test_a_file_is_written_again(edgepack: Type, folder: Path) -> None:
    edgepack("environment", "create", "-n", "mine", "-f", "conda.yml")
    edgepack("environment", "create", "-n", "other", "-f", "requirements.txt")
    assert edgepack("environment", "show", "mine", "--format", "conda").out == SPECIFICATION
    assert (
        edgepack("environment", "show", "other", "--format", "requirements").out
        == (folder / "requirements.txt").read_text()
    )


def test_a_table_shows_what_there_is(edgepack: Type) -> None:
    made = edgepack(
        "environment", "create", "-n", "mine", "-f", "requirements.txt", "--variable", "OMP_NUM_THREADS=1",
        "--base-image", "registry.example/base:1",
    )  # fmt: skip
    assert made.err == f"created the workspace {Path.cwd() / 'ws'}\n"
    assert [line.split() for line in made.out.splitlines()][1][:5] == [
        "mine:1",
        "-",
        "2",
        "pip",
        "registry.example/base:1",
    ]
    shown = dict(line.split(maxsplit=1) for line in edgepack("environment", "show", "mine").out.splitlines())
    assert shown["base"] == "           registry.example/base:1".strip()
    text = edgepack("environment", "show", "mine").out
    assert "numpy==1.26.4 (2 hashes)" in text
    assert "--extra-index-url https://two.example/simple" in text
    assert "variable OMP_NUM_THREADS" in text
    listed = edgepack("environment", "list").out.splitlines()
    assert [line.split()[0] for line in listed] == [
        "ENVIRONMENT", "mine:1", "onnx-minimal:1", "python-minimal:1", "sklearn-minimal:1",
    ]  # fmt: skip
    assert "with edgepack" in listed[2]


def test_versions_grow_are_listed_and_deleted(edgepack: Type) -> None:
    for package in ("numpy", "scipy"):
        edgepack("environment", "create", "-n", "mine", "--package", package, "--python", "3.11")
    versions = done(edgepack("environment", "list", "-n", "mine", "--output", "json"))
    assert [one["id"] for one in versions] == ["mine:1", "mine:2"]
    assert done(edgepack("environment", "delete", "mine:2", "--output", "json")) == versions[1]
    assert done(edgepack("environment", "show", "mine", "--output", "json")) == versions[0]
    assert edgepack("environment", "show", "mine:2").sentence.endswith("mine:2 not found; its versions are 1")


def test_curated_environments_need_no_workspace(
    edgepack: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("EDGEPACK_WORKSPACE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    listed = done(edgepack("environment", "list", "--output", "json"))
    assert [one["name"] for one in listed] == ["onnx-minimal", "python-minimal", "sklearn-minimal"]
    assert done(edgepack("environment", "list", "-n", "onnx-minimal", "--output", "json")) == listed[:1]
    assert "onnxruntime==" in edgepack("environment", "show", "onnx-minimal:1", "--format", "requirements").out
    assert not (tmp_path / "data").exists()


def test_notes_tell_what_is_worth_knowing(edgepack: Type, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    edgepack("environment", "create", "-n", "mine", "--package", "numpy", "--variable", "API_TOKEN=x")
    assert "mine: names no Python; 3.11 is taken, the default" in caplog.text
    assert "mine: the variable API_TOKEN looks like a credential, and everybody can read it here" in caplog.text
    Path("c.yml").write_text("name: c\ndependencies: [python=3.11]\nprefix: /opt/c\n")
    edgepack("environment", "create", "-n", "other", "-f", "c.yml")
    assert "c.yml: prefix names a folder of one machine and is left out" in caplog.text
    assert "c.yml: does not list azureml-defaults, which only Azure needs" in caplog.text


WRONG = [
    ("create", 2, "missing option '-n' / '--name'; see: edgepack environment create --help"),
    ("create -n mine", 2, "an environment needs a file, packages or a base; give -f, --package, --mlflow or --base"),
    ("create -n a/b --package numpy", 2, "'a/b' is not an environment name; use letters, digits"),
    ("create -n '' --package numpy", 2, "'' is not an environment name"),
    ("create -n ../../x --package numpy", 2, "'../../x' is not an environment name"),
    ("create -n mine:2 --package numpy", 2, "'mine:2' is not an environment name"),
    (f"create -n {'a' * 256} --package numpy", 2, "at most 255 characters"),
    ("create -n onnx-minimal --package numpy", 2, "onnx-minimal: is the name of an environment that edgepack brings;"),
    ("create -n mine -f gone.yml", 3, "gone.yml: there is no such conda file; check its path"),
    ("create -n mine -f gone.txt", 3, "gone.txt: there is no such requirement file; check its path"),
    ("create -n mine -f gone", 3, "gone: there is no such file; check its path"),
    ("create -n mine -f Dockerfile", 2, "is neither a conda file nor a requirement file by its name; let it end in"),
    ("create -n mine -f model", 3, "model: has no azureml_environment.json; give a file, or --mlflow for a model"),
    ("create -n mine -f conda.yml --mlflow model", 2, "--mlflow: is given with --file; give one of them"),
    ("create -n mine --mlflow gone", 3, "gone: there is no such folder; give the folder that mlflow"),
    ("create -n mine --mlflow .", 3, ".: is not an MLflow model: it has no MLmodel; give the folder"),
    ("create -n mine -f conda.yml --python 3.9", 2, "conda.yml: names Python 3.6.2 and --python is 3.9; keep one"),
    ("create -n mine --python 311", 2, "there is no Python 311; write it as 3.11"),
    ("create -n mine --python latest", 2, "'latest' is not a version of Python; write it as 3.11"),
    ("create -n mine --package numpy=1", 2, "'numpy=1' is how conda writes it; write numpy==1"),
    ("create -n mine -f requirements.txt --package Flask", 2, "packages: flask is in the file already"),
    ("create -n mine --package ./mine", 2, "'./mine' is a file or folder of this machine; put its wheel into"),
    (
        "create -n mine --package '-r requirements.txt'",
        2,
        "-r names the file 'requirements.txt', which has no place here",
    ),
    ("create -n mine --package numpy --variable A", 2, "--variable: 'A' is not KEY=VALUE; write it as --variable OMP_"),
    ("create -n mine --package numpy --variable A-B=1", 2, "variable 'A-B': use letters, digits and '_', not starting"),
    ("create -n mine --base-image 'Not Good'", 2, "base_image: 'Not Good' is not an image reference"),
    (
        "create -n mine --base-image a --base-dockerfile Dockerfile",
        2,
        "has a base image and a base Dockerfile; keep one",
    ),
    ("create -n mine --base-dockerfile gone", 3, "gone: there is no such Dockerfile; check its path"),
    ("create -n mine --base-dockerfile conda.yml", 2, "base_dockerfile has no FROM"),
    ("create -n mine --base-dockerfile model", 2, "model: is a folder and not a regular file; give a Dockerfile"),
    ("create -n mine --packages numpy", 2, "no such option '--packages'; did you mean '--package'?"),
    ("show gone", 3, "environment gone not found; there are kept, onnx-minimal, python-minimal, sklearn-minimal"),
    ("show kpet", 3, "did you mean 'kept'?"),
    ("show kept:0", 2, "'0' is not an environment version; versions are whole numbers from 1"),
    ("show kept:latest", 2, "kept: 'latest' is not an environment version"),
    ("show kept:2", 3, "environment kept:2 not found; its versions are 1"),
    ("show onnx-minimal:9", 3, "environment onnx-minimal:9 not found; this edgepack brings onnx-minimal:1"),
    ("show kept --format yaml", 2, "--format: 'yaml' is not one of 'conda', 'requirements', 'json'"),
    ("show kept --format requirements", 2, "kept:1: has conda packages (scikit-learn); show it with --format conda"),
    ("list -n gone", 3, "environment gone not found"),
    ("list -n a/b", 2, "'a/b' is not an environment name"),
    ("delete kept", 2, "environment kept: say which version; such as kept:1"),
    ("delete gone:1", 3, "environment gone:1 not found"),
    ("delete onnx-minimal:1", 2, "environment onnx-minimal:1: edgepack brings it, so it stays"),
    ("crate --workspace ws", 2, "no such command 'crate'; did you mean 'create'?"),
]


@pytest.mark.parametrize(("words", "code", "says"), WRONG, ids=[words[:60] for words, _, _ in WRONG])
def test_a_mistake_gets_one_sentence_with_a_way_out(
    edgepack: Type, place: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int, says: str
) -> None:
    monkeypatch.chdir(place)
    ended = edgepack("environment", *shlex.split(words), "--workspace", place / "ws")
    assert says in ended.sentence
    assert ended.code == code


def test_mistakes_change_nothing(edgepack: Type, place: Path) -> None:
    listed = done(edgepack("environment", "list", "--output", "json", "--workspace", place / "ws"))
    assert [one["id"] for one in listed if one["created"]] == ["kept:1"]


@pytest.mark.parametrize("words", ["list", "show mine", "delete mine:1"])
def test_a_command_that_reads_makes_no_workspace(edgepack: Type, folder: Path, words: str) -> None:
    ended = edgepack("environment", *words.split(), "--workspace", "wokspace")
    assert (ended.code, "there is no such workspace" in ended.sentence) == (3, True)
    assert not (folder / "wokspace").exists()


def test_a_creation_that_fails_makes_no_workspace(edgepack: Type, folder: Path) -> None:
    Path("bad.yml").write_text("dependencies: [python=311]")
    assert edgepack("environment", "create", "-n", "mine", "-f", "bad.yml").code == 2
    assert not (folder / "ws").exists()


def test_what_a_file_says_cannot_command_the_terminal(edgepack: Type) -> None:
    Path("v.yml").write_text('dependencies: [python=3.11]\nvariables: {TITLE: "\\e]0;owned\\a\\e[2J"}\n')
    edgepack("environment", "create", "-n", "mine", "-f", "v.yml")
    assert "\x1b" not in edgepack("environment", "show", "mine").out
    Path("w.yml").write_text('"\\e[2J": 1\ndependencies: ["\\e[31mnumpy"]\n')
    assert "\x1b" not in edgepack("environment", "create", "-n", "mine", "-f", "w.yml").err
