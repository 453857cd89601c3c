"""What ``edgepack`` answers to words that are nearly right: the word that was meant, and the way out."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from converters.sandbox.launch import Interpreter
from packager.commands.main import build_cli
from packager.models.details import ModelDetails
from packager.models.model import Framework
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import debian, make_base
from tests.support.typed import Type, typist


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace ``ws`` that has two models, a key and an image."""
    folder = tmp_path_factory.mktemp("mistakes")
    workspace = Workspace(folder / "ws", folder / "cache")
    (folder / "model.bin").write_bytes(b"weights")
    for name in ("churn", "fraud"):
        workspace.models.register(name, folder / "model.bin", ModelDetails(framework=Framework.SCIKIT_LEARN))
    workspace.keys.create("factory")
    workspace.store.tag("churn:1", make_base(workspace.store, [debian()]))
    return folder


@pytest.fixture
def edgepack(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.chdir(place)
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(place / "ws"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(place / "cache"))
    return typist(build_cli, "edgepack", monkeypatch, capfd)


# ---- The word that was meant ----------------------------------------------------------------------------------------

MEANT = [
    ("modle list", 2, "no such command 'modle'; did you mean 'model'? see: edgepack --help"),
    ("models list", 2, "did you mean 'model'?"),
    ("model ls", 2, "no such command 'ls'; did you mean 'list'? see: edgepack model --help"),
    ("model registr", 2, "did you mean 'register'?"),
    ("key delete", 2, "no such command 'delete'; see: edgepack key --help"),
    ("pull x", 2, "no such command 'pull'; did you mean 'package pull'?"),
    ("build", 2, "did you mean 'package build' or 'base build'?"),
    ("help modle", 2, "no such command 'modle'; did you mean 'model'?"),
    ("model list --nmae churn", 2, "no such option '--nmae'; did you mean '--name'? see: edgepack model list --help"),
    ("package build --tga x", 2, "did you mean '--tag'?"),
    ("package build --no-network", 2, "see: edgepack package build --help"),
    ("model --name churn list", 2, "options of a command come after its name, see: edgepack model --help"),
    ("model list --output jsn", 2, "--output: 'jsn' is not one of 'table', 'json'; did you mean 'json'?"),
    ("model list --output xml", 2, "--output: 'xml' is not one of 'table', 'json'; see: edgepack model list --help"),
    ("demo --runtime procss", 2, "--runtime: 'procss' is not one of 'auto', 'docker', 'crun', 'process'; did you mean"),
    ("model register -n x -p model.bin --framework Tensorflw", 2, "did you mean 'TensorFlow'? use one of ScikitLearn"),
    ("model register -n x -p model.bin --framework skleran", 2, "did you mean 'ScikitLearn'?"),
    ("model register -n x -p model.bin --framework custm", 2, "did you mean 'Custom'?"),
    ("model register -n x -p model.bin --framework caffe", 2, "--framework: 'caffe' is not a known framework; use one"),
    ("model convert -m chrun", 3, "model chrun not found; did you mean 'churn'? registered are churn, fraud"),
    ("model convert -m churn:7", 3, "model churn:7 not found; its versions are 1"),
    ("model list -n chrun", 3, "model chrun not found; did you mean 'churn'? registered are churn, fraud"),
    ("model list -n zzz", 3, "model zzz not found; registered are churn, fraud"),
    ("model list -n churn:1", 2, "'churn:1' is not a model name"),
    ("package build -m chrun -t c:1", 3, "did you mean 'churn'?"),
    ("package build -m churn -t c:1 --keep symbls", 2, "no rule is named symbls; did you mean 'symbols'?"),
    ("package inspect chrun:1", 3, "image 'chrun:1' not found; did you mean 'churn:1'? see: edgepack package list"),
    ("package push churn oci:out", 3, "image 'churn:latest' not found; there is churn:1; see: edgepack package list"),
    ("bundle create churn -o b", 3, "image 'churn:latest' not found; there is churn:1; see:"),
    ("package build -m churn -t", 2, "option '-t' requires an argument; see: edgepack package build --help"),
    ("key create --name", 2, "option '--name' requires an argument; see: edgepack key create --help"),
    ("package push churn:1 docker-deamon:x", 2, "does not name a registry; write docker-daemon:NAME"),
    ("package push churn:1 OCI:x", 2, "does not name a registry; write oci:PATH"),
    ("package push churn:1 docker-archive", 2, "does not name a registry; write docker-archive:PATH"),
    ("package push churn:1 there", 2, "does not name a registry; give a destination such as registry.example/churn:1"),
    ("package push churn:1 https://r.example/x:1", 2, "has no http:// or https:// before it; write r.example/x:1"),
    ("package pull http://r.lan:5000/x", 2, "write r.lan:5000/x, and --plain-http where it has no TLS"),
    ("package inspect model.bin", 3, "image 'model.bin' not found; for the file write oci-archive:model.bin"),
    ("package inspect cache", 3, "image 'cache' not found; for the folder write oci:cache"),
    ("package load r.example/x:1", 3, "what is in a registry is fetched by: edgepack package pull r.example/x:1"),
    (
        "bundle create churn:1 -o b --since model.bin",
        2,
        "not JSON (Expecting value: line 1 column 1 (char 0)); write one",
    ),
    ("desired sign model.bin --key factory", 2, "write it as docs/reference/device.md shows"),
    (f"desired sign model.bin --key factory --serial {1 << 63}", 2, "whole number from 0 to 9223372036854775807, not"),
    ("desired sign model.bin --key factory --serial -1", 2, "--serial must be a whole number from 0 to"),
    ("base build --mirror mirror.example", 2, "--mirror: 'mirror.example' is not the address of a mirror; give an"),
    ("package inspect churn:2", 3, "did you mean 'churn:1'?"),
    ("package push chrun:1 oci:out", 3, "did you mean 'churn:1'? see: edgepack package list"),
    ("bundle create churn:11 -o b", 3, "did you mean 'churn:1'? see: edgepack package list"),
    ("bundle create churn:1 -o b --key factry", 3, "there is no key 'factry'; did you mean 'factory'? create it with"),
    ("key export Factory", 3, "there is no key 'Factory'; did you mean 'factory'?"),
    (
        "bundle create churn:1 -o b --platform linux/arm",
        2,
        "image churn:1: is for linux/amd64, not for linux/arm;",
    ),
    (
        "bundle create churn:1 -o b --platform arm64",
        2,
        "'arm64' is not a platform; write it as linux/amd64",
    ),
    (
        "package build -m churn -t c:1 --platform linux/arm",
        2,
        "--platform: images cannot be built for linux/arm;",
    ),
    ("package build -m churn -t c:1 --platform windows/amd64", 2, "build for linux/amd64 or linux/arm64"),
    ("model convert -m churn --tolerance foo", 2, "--tolerance: 'foo' is not OUTPUT=REL; write it as --tol"),
    ("model convert -m churn --tolerance a=b", 2, "--tolerance: 'b' is not a number; write it as --tol"),
    ("model register -n x -p model.bin --tag blue", 2, "--tag: 'blue' is not KEY=VALUE; write it as --tag team=blue"),
    ("model convert -m churn --timeout soon", 2, "--timeout must be a number above 0, not 'soon'; see: edgepack model"),
    ("model convert -m churn --timeout 0", 2, "--timeout must be a number above 0, not '0'"),
    ("model convert -m churn --memory 0.1", 2, "--memory must be a number of at least 0.5, not '0.1'"),
    ("demo --port 70000", 2, "--port must be a whole number from 1 to 65535, not '70000'; see: edgepack demo --help"),
    ("demo --port 1.5", 2, "--port must be a whole number from 1 to 65535, not '1.5'"),
    ("base build debian12-pyhton3.11", 3, "did you mean 'debian12-python3.11'? choose from debian12-python3.11"),
]


@pytest.mark.parametrize(("words", "code", "says"), MEANT, ids=[words for words, _, _ in MEANT])
def test_a_word_that_is_nearly_right_gets_the_one_that_was_meant(
    edgepack: Type, words: str, code: int, says: str
) -> None:
    ended = edgepack(*shlex.split(words))
    assert says in ended.sentence
    assert ended.code == code


@pytest.mark.parametrize(
    ("called", "framework"),
    [
        ("sklearn", "ScikitLearn"), ("scikit-learn", "ScikitLearn"), ("Scikit_Learn", "ScikitLearn"),
        ("sk-learn", "ScikitLearn"), ("xgb", "ScikitLearn"), ("XGBoost", "ScikitLearn"), ("lgbm", "ScikitLearn"),
        ("lightgbm", "ScikitLearn"), ("catboost", "ScikitLearn"), ("torch", "PyTorch"), ("py-torch", "PyTorch"),
        ("tf", "TensorFlow"), ("keras", "TensorFlow"), ("TENSORFLOW", "TensorFlow"), ("onnx", "Onnx"),
        ("onnxruntime", "Onnx"), ("custom", "Custom"), (" Custom", "Custom"),
    ],
)  # fmt: skip
def test_a_framework_may_be_called_what_people_call_it(called: str, framework: str) -> None:
    assert Framework.parse(called) == framework


# ---- Help, wherever it is asked for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("-h", "--help"),
        ("help", "--help"),
        ("model -h", "model --help"),
        ("help model", "model --help"),
        ("help package build", "package build --help"),
        ("package help build", "package build --help"),
        ("package build -h", "package build --help"),
        ("help demo", "demo --help"),
    ],
)
def test_help_may_be_asked_for_in_any_usual_way(edgepack: Type, words: str, same: str) -> None:
    asked, usual = edgepack(*words.split()), edgepack(*same.split())
    assert asked.out.startswith("Usage: edgepack")
    assert (asked.code, asked.out) == (0, usual.out)


@pytest.mark.parametrize("words", ["{} key list", "key {} list", "key list {}"])
def test_shared_options_may_be_given_before_the_command_and_after_it(edgepack: Type, place: Path, words: str) -> None:
    ended = edgepack(*words.format(f"--output JSON --workspace {place / 'ws'}").split())
    assert (ended.code, ended.err) == (0, "")
    assert '"name": "factory"' in ended.out
    ended = edgepack(*words.format("--workspace absent").split())
    assert (ended.code, ended.sentence.partition(": ")[2]) == (
        3,
        "there is no such workspace; check --workspace and EDGEPACK_WORKSPACE; a new one is made by: "
        "edgepack model register",
    )


def test_the_option_nearest_to_the_command_counts(edgepack: Type) -> None:
    assert edgepack("--workspace", "absent", "key", "list", "--workspace", "ws").code == 0
    assert edgepack("--workspace", "ws", "key", "--workspace", "absent", "list").code == 3


def test_what_is_named_like_a_model_and_is_none_is_refused_before_it_gets_a_version(
    edgepack: Type, tmp_path: Path
) -> None:
    (tmp_path / "m.joblib").write_text("age,city\n40,ulm\n41,bonn\n")
    (tmp_path / "folder").mkdir()
    for path, says in (("m.joblib", "is a table of text (CSV), not a model"), ("folder", "holds no file")):
        ended = edgepack("model", "register", "-n", "new", "-p", tmp_path / path)
        assert (ended.code, says in ended.sentence) == (2, True)
    assert edgepack("model", "list", "-n", "new").code == 3


# ---- A workspace that is not there ----------------------------------------------------------------------------------

READING = [
    "model list", "model convert -m churn", "package list", "package inspect churn:1", "package push churn:1 oci:out",
    "key list", "key export factory", "bundle create churn:1 -o b",
]  # fmt: skip


@pytest.mark.parametrize("words", READING)
def test_a_command_that_reads_creates_no_workspace(edgepack: Type, place: Path, words: str) -> None:
    ended = edgepack(*words.split(), "--workspace", "wokspace")
    assert (ended.code, ended.sentence.partition("; ")[0]) == (3, f"{place / 'wokspace'}: there is no such workspace")
    assert not (place / "wokspace").exists()


def test_a_folder_of_something_else_does_not_become_a_workspace_by_reading(edgepack: Type, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    ended = edgepack("package", "list", "--workspace", tmp_path)
    assert (ended.code, "is not a workspace" in ended.sentence) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_command_that_creates_a_workspace_says_so_once(edgepack: Type, tmp_path: Path) -> None:
    created = f"created the workspace {tmp_path / 'new'}\n"
    failed = edgepack("model", "register", "-n", "churn", "-p", "absent", "--workspace", tmp_path / "new")
    assert (failed.code, "absent" in failed.sentence) == (3, True)
    assert edgepack("model", "list", "--workspace", tmp_path / "new").code == 3, "nothing was put into it"
    words = (
        "model",
        "register",
        "-n",
        "churn",
        "-p",
        "model.bin",
        "--framework",
        "Custom",
        "--workspace",
        tmp_path / "new",
    )
    assert edgepack(*words).err == created
    assert edgepack(*words).err == ""
    assert edgepack("key", "create", "-n", "mine", "--workspace", tmp_path / "other").err.startswith("created the work")


def test_the_users_own_workspace_need_not_exist_to_be_listed(
    edgepack: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("EDGEPACK_WORKSPACE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for noun in ("model", "package", "key"):
        ended = edgepack(noun, "list", "--output", "json")
        assert (ended.code, ended.out) == (0, "[]\n")
        assert ended.err.startswith("no ")
    assert not list(tmp_path.iterdir())


def test_a_user_without_a_home_is_told_what_to_set_and_needs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def nobody(_: int) -> object:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)  # a number without a name, as containers have it
    for variable in ("HOME", "EDGEPACK_WORKSPACE", "EDGEPACK_CACHE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    edgepack = typist(build_cli, "edgepack", monkeypatch, capfd)
    wish = "is not set, and this user has no home folder; set it to a folder of yours, or set HOME"
    for variable in ("EDGEPACK_WORKSPACE", "EDGEPACK_CACHE"):
        ended = edgepack("key", "list")
        assert (ended.code, ended.err) == (2, f"edgepack: {variable}: {wish}\n")
        monkeypatch.setenv(variable, str(tmp_path / variable))
    assert edgepack("key", "create", "-n", "mine").code == 0
    assert Interpreter(Path("/"), (), (tmp_path, Path("/"))).paths()[0] == tmp_path  # who converts needs none either


def test_a_cache_that_cannot_be_made_in_the_home_is_named_with_the_variable_that_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (home := tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    for variable in ("EDGEPACK_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    edgepack = typist(build_cli, "edgepack", monkeypatch, capfd)
    ended = edgepack("key", "create", "-n", "mine")
    assert ended.code == 2
    hint = f"set EDGEPACK_CACHE to a folder of yours; without it the cache is {home}/.cache/edgepack"
    assert ended.err.startswith(f"edgepack: {home}: ")
    assert hint in ended.err
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    assert edgepack("key", "create", "-n", "mine").code == 0


def test_a_file_of_no_known_framework_is_said_to_be_kept_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    edgepack = typist(build_cli, "edgepack", monkeypatch, capfd)
    words = ["model", "register", "-n", "x", "-p", "model.bin"]
    assert "x:1 is kept as it is, for an entry script" in edgepack(*words).err
    assert "kept as it is" not in edgepack(*words, "--framework", "Custom").err
