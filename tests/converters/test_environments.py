"""A model meets the software that it was trained with, found without opening it."""

from __future__ import annotations

import base64
import builtins
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from converters import convert, prepare
from converters.software import environments, selection
from converters.source import traces
from edgepack.errors import ConversionError, IncompatibleError, MissingPartError, NoSpaceError, UsageError
from tests.support.running import run
from tests.support.waiting import wait_until

HERE = sklearn.__version__
SERIES = ".".join(HERE.split(".")[:2])


@pytest.fixture(scope="module")
def model() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(*load_iris(return_X_y=True))


def _from_version(model: Any, path: Path, version: str) -> Path:
    """The pickle that another version would have written, as far as its text goes (of the same length)."""
    data = pickle.dumps(model)
    assert len(version) == len(HERE)
    path.write_bytes(data.replace(HERE.encode(), version.encode()))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_version_and_modules_are_read_from_every_pickle_protocol(protocol: int, model: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(model, protocol=protocol))
    found = traces.read(path)
    assert found.version == HERE
    assert {"sklearn", "numpy"} <= found.modules


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str)
def test_version_is_read_from_what_joblib_packed(compress: Any, model: Any, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "m.joblib", compress=compress)
    assert traces.read(tmp_path / "m.joblib").version == HERE


def test_version_is_read_from_a_skops_file(tmp_path: Path) -> None:
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": '"1.4.2"'}
    schema = {"__class__": "Pipeline", "__module__": "sklearn.pipeline", "content": {"_sklearn_version": text}}
    with zipfile.ZipFile(tmp_path / "m.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", json.dumps(schema, indent=2))
    found = traces.read(tmp_path / "m.skops")
    assert (found.version, found.skops) == ("1.4.2", True)
    assert "sklearn" in found.modules


class Touches:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return os.mkdir, (self.path,)


def test_reading_the_traces_runs_nothing(tmp_path: Path) -> None:
    path, touched = tmp_path / "m.pkl", tmp_path / "touched"
    path.write_bytes(pickle.dumps([Touches(str(touched)), {"_sklearn_version": "1.3.2"}]))
    assert traces.read(path).version == "1.3.2"
    selection.choose("ScikitLearn", path)
    assert not touched.exists()


def test_boosters_are_known_by_the_classes_that_are_named_not_by_a_mention(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    for protocol in (2, 4):
        data = pickle.dumps(["try xgboost.sklearn", HERE], protocol=protocol)
        path.write_bytes(data)
        assert traces.read(path).modules == frozenset()
    path.write_bytes(b"\x80\x02clightgbm.sklearn\nLGBMClassifier\n)\x81.")
    assert "lightgbm" in traces.read(path).modules
    path.write_bytes(b"\x80\x04\x8c\x0fxgboost.sklearn\x94\x8c\x0dXGBClassifier\x94\x93\x94.")
    assert "xgboost" in traces.read(path).modules


def test_a_class_named_across_two_chunks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "CHUNK", 1024)
    path = tmp_path / "m.pkl"
    for before in range(980, 1030, 7):
        path.write_bytes(
            b"\0" * before
            + b"\x8c\x0dcatboost.core\x94\x8c\x08CatBoost\x94\x93\x8c\x10_sklearn_version\x94\x8c\x051.6.1"
        )
        assert traces.read(path) == traces.Traces("1.6.1", traces.read(path).modules | {"catboost"})


@given(st.binary(max_size=200), st.sampled_from([bytes, gzip.compress, zlib.compress, bz2.compress, lzma.compress]))
def test_no_bytes_break_the_search(tmp_path_factory: pytest.TempPathFactory, data: bytes, pack: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    packed = pack(data)
    for whole in (packed, packed[: len(packed) // 2], b"PK" + packed):
        path.write_bytes(whole)
        traces.read(path)


def test_file_that_unpacks_to_far_more_is_not_searched_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "MOST", 64 << 20)
    path = tmp_path / "bomb.joblib"
    path.write_bytes(zlib.compress(bytes(512 << 20), 1))
    taken = sum(map(len, traces._plain(io.BytesIO(path.read_bytes()), path.read_bytes()[:8])))
    assert 64 << 20 <= taken <= (64 << 20) + traces.CHUNK
    assert traces.read(path) == traces.Traces()


def test_both_ends_of_a_large_file_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "EDGE", 1000)
    path = tmp_path / "m.pkl"
    named, version = b"cxgboost.core\nBooster\n", b"X\x10\x00\x00\x00_sklearn_versionq\x01X\x05\x00\x00\x001.7.2"
    for size in (0, 900, 1100, 5000):
        path.write_bytes(named + bytes(size) + version)
        assert traces.read(path) == traces.Traces("1.7.2", frozenset({"xgboost"}))


def test_model_of_the_series_beside_us_is_read_by_it(model: Any, tmp_path: Path) -> None:
    assert selection.choose("ScikitLearn", _from_version(model, tmp_path / "m.pkl", f"{SERIES}.9")).name == "installed"
    (tmp_path / "n.pkl").write_bytes(b"says nothing")
    assert selection.choose("ScikitLearn", tmp_path / "n.pkl").name == "installed"


@pytest.mark.parametrize(("version", "name"), [("1.5.0", "sklearn-1.5"), ("1.2.1", "sklearn-1.2")])
def test_model_of_another_series_is_read_by_its_own(version: str, name: str, model: Any, tmp_path: Path) -> None:
    environment = selection.choose("ScikitLearn", _from_version(model, tmp_path / "m.pkl", version))
    assert (environment.name, environment.mismatch) == (name, None)


@pytest.mark.parametrize(("version", "name"), [("0.9.2", "sklearn-1.2"), ("2.0.0", "sklearn-1.9")])
def test_version_that_cannot_be_had_is_read_by_the_nearest_and_said(
    version: str, name: str, model: Any, tmp_path: Path
) -> None:
    environment = selection.choose("ScikitLearn", _from_version(model, tmp_path / "m.pkl", version))
    assert environment.name == name
    assert environment.mismatch == f"it was trained with scikit-learn {version}, and versions 1.2 to 1.9 can be had"


def test_boosters_that_are_not_installed_come_with_the_series_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = selection.installed_version
    monkeypatch.setattr(selection, "installed_version", lambda part: None if part in traces.BOOSTERS else beside(part))
    named = b"\x8c\x10_sklearn_version\x94\x8c\x051.4.2\x94\x8c\x11lightgbm.sklearn\x94\x8c\x0eLGBMClassifier\x94\x93"
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04" + named)
    assert selection.choose("ScikitLearn", tmp_path / "m.pkl").name == "boosters-1.4"
    for ending, start in (
        (".ubj", b"{L\0learner{"),
        (".cbm", b"CBM1"),
        (".txt", b"tree\n"),
        (".json", b'{"learner":{'),
    ):
        path = tmp_path / f"m{ending}"
        path.write_bytes(start)
        assert selection.choose("ScikitLearn", path).name == "boosters-1.9"


@pytest.mark.parametrize("module", traces.COMPANIONS)
def test_libraries_beside_scikit_learn_that_are_not_installed_come_with_the_boosters(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = selection.installed_version
    monkeypatch.setattr(selection, "installed_version", lambda part: None if part == module else beside(part))
    name = f"{module}.pipeline".encode()
    named = (
        b"\x8c\x10_sklearn_version\x94\x8c\x051.9.1\x94\x8c" + bytes([len(name)]) + name + b"\x94\x8c\x04Some\x94\x93"
    )
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04" + named)
    assert selection.choose("ScikitLearn", tmp_path / "m.pkl").name == "companions-1.9"
    monkeypatch.setattr(selection, "installed_version", beside)
    assert selection.choose("ScikitLearn", tmp_path / "m.pkl").name == "installed"


@pytest.mark.parametrize(
    ("start", "booster"),
    [(b"CBM1", "catboost"), (b'{"features_info":{', "catboost"), (b"tree\nversion=v4", "lightgbm"),
     (b'{"learner":{', "xgboost"), (b"{L\0\0\0\0\0\0\0\x07learner{L", "xgboost")],
)  # fmt: skip
def test_file_of_a_booster_needs_that_booster_only(
    start: bytes, booster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {booster: "3.2.0" if booster == "xgboost" else "4.7.0" if booster == "lightgbm" else "1.2.10"}
    there["onnxmltools"] = "1.16.0"
    beside = selection.installed_version
    monkeypatch.setattr(
        selection,
        "installed_version",
        lambda part: there.get(part) if part in (*traces.BOOSTERS, *there) else beside(part),
    )
    (tmp_path / "m.txt").write_bytes(start)
    assert selection.choose("ScikitLearn", tmp_path / "m.txt").name == "installed"


def test_module_of_the_users_own_is_looked_for_where_it_is_installed(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "churn_lib.py").touch()
    data = pickle.dumps(model).replace(HERE.encode(), b"1.5.0") + b"\x8c\x09churn_lib\x94\x8c\x05Model\x94\x93"
    (tmp_path / "m.pkl").write_bytes(data)
    assert selection.choose("ScikitLearn", tmp_path / "m.pkl").name == "sklearn-1.5"
    monkeypatch.syspath_prepend(packages)
    assert selection.choose("ScikitLearn", tmp_path / "m.pkl").name == "installed"


def test_version_known_not_to_work_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = selection.installed_version
    monkeypatch.setattr(selection, "installed_version", lambda part: "7.36.2" if part == "protobuf" else beside(part))
    (tmp_path / "m.onnx").touch()
    assert selection.choose("Onnx", tmp_path / "m.onnx").name == "onnx"


def test_every_lock_pins_wheels_by_hash_and_names_no_place() -> None:
    locks = sorted(selection.LOCKS.glob("*.txt"))
    assert {f"sklearn-{a}.{b}" for a, b in selection.SERIES} <= {path.stem for path in locks}
    for kind in ("boosters", "companions"):
        assert {f"{kind}-{a}.{b}" for a, b in selection.SERIES} <= {path.stem for path in locks}
    for path in locks:
        text = path.read_text()
        assert re.findall(r"^(?:https?:|-|/).*|.*(?:://|\.whl).*", text, re.MULTILINE) == [], path.name
        assert re.findall(r"^(?:nvidia|cuda|triton|torch)\b.*", text, re.MULTILINE) == [], path.name
        pins = re.findall(r"^([\w.-]+)==([\w.]+)[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^\w", text, re.MULTILINE)) > 5, path.name
        if series := re.fullmatch(r"(?:sklearn|boosters|companions)-(.+)", path.stem):
            assert any(name == "scikit-learn" and version.startswith(f"{series[1]}.") for name, version in pins)
    assert "# apart: torch==" in (selection.LOCKS / "pytorch.txt").read_text()


# Environments, made from a wheel of ours in a folder, with no index.


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    wheel = tmp_path / "wheels" / "tiny_part-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    files = {
        "tiny_part.py": b"ANSWER = 42\n",
        "tiny_part-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-part\nVersion: 1.0\n",
        "tiny_part-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_record_hash(data)},{len(data)}\n" for name, data in files.items())
    files["tiny_part-1.0.dist-info/RECORD"] = (record + "tiny_part-1.0.dist-info/RECORD,,\n").encode()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    path = tmp_path / "tiny.txt"
    path.write_text(f"tiny-part==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return path


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _folder(tmp_path: Path) -> Path:
    return tmp_path / "c" / environments.FOLDER


def _answer(folder: Path) -> str:
    code = "import tiny_part, sys; print(tiny_part.ANSWER, sys.prefix)"
    return run(folder / "bin" / "python", "-c", code)


def test_environment_is_made_once_and_then_found_without_uv(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = environments.ready(lock, tmp_path / "c")
    assert _answer(folder) == f"42 {folder}\n"
    assert list(environments.packages(folder).glob("__pycache__/tiny_part.*.pyc"))

    def gone() -> str:
        raise AssertionError("uv was asked again")

    monkeypatch.setattr(environments, "find_uv", gone)
    assert environments.ready(lock, tmp_path / "c") == folder
    lock.write_text(lock.read_text() + "# changed\n")
    with pytest.raises(AssertionError):
        environments.ready(lock, tmp_path / "c")


def test_environment_whose_python_is_gone_is_made_again(lock: Path, tmp_path: Path) -> None:
    folder = environments.ready(lock, tmp_path / "c")
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/nowhere/python")
    assert _answer(environments.ready(lock, tmp_path / "c")).startswith("42 ")
    assert [path.name for path in _folder(tmp_path).iterdir() if not path.name.endswith(".lock")] == [folder.name]


_READY = """
import sys
from pathlib import Path
from converters.software import environments
environments.ready(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_many_processes_at_once_make_one_environment(lock: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _READY, str(lock), str(tmp_path / "c")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    found = [path for path in _folder(tmp_path).iterdir() if not path.name.endswith(".lock")]
    assert len(found) == 1
    assert _answer(found[0]).startswith("42 ")


def test_environment_that_was_being_made_at_a_kill_is_not_taken_for_whole(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "uv"
    slow.parent.mkdir()
    real = environments.find_uv()
    slow.write_text(
        f'#!/bin/sh\n"{real}" "$@" || exit $?\n[ "$1" = venv ] && touch "{tmp_path}/begun" && exec sleep 60\nexit 0\n'
    )
    slow.chmod(0o755)
    code = f"from converters.software import environments as e; e.find_uv = lambda: {str(slow)!r}\n" + _READY
    process = subprocess.Popen([sys.executable, "-c", code, str(lock), str(tmp_path / "c")], start_new_session=True)
    wait_until((tmp_path / "begun").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = list(_folder(tmp_path).glob(".*.tmp"))
    assert len(left) == 1
    folder = environments.ready(lock, tmp_path / "c")
    assert _answer(folder).startswith("42 ")
    assert list(_folder(tmp_path).glob(".*.tmp")) == []


def test_what_cannot_be_fetched_is_said_with_the_way_to_prepare_it(lock: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "wheels")
    (tmp_path / "wheels").mkdir()
    with pytest.raises(MissingPartError, match=r"environment tiny.*offline; .*python -m converters\.prepare tiny"):
        environments.ready(lock, tmp_path / "c", offline=True)
    assert [path for path in _folder(tmp_path).iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        ("error: failed to write: No space left on device (os error 28)", NoSpaceError, "free some space"),
        (
            "error: Failed to fetch: `https://me:secret@mirror.example/simple/x/`: dns error",
            MissingPartError,
            r"cannot be fetched now: https://\*\*\*\*@mirror\.example cannot be reached; run the same command once",
        ),
        (
            "error: thing==1 has no wheels with a matching platform tag",
            IncompatibleError,
            "cannot be made on this machine",
        ),
        ("error: Hash mismatch for `thing==1`", MissingPartError, "its lock does not name"),
    ],
    ids=["disk", "network", "platform", "hash"],
)
def test_what_uv_complains_of_is_one_sentence(
    said: str, kind: type[Exception], sentence: str, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "uv"
    fake.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 2\n")
    fake.chmod(0o755)
    monkeypatch.setattr(environments, "find_uv", lambda: str(fake))
    with pytest.raises(kind, match=sentence) as caught:
        environments.ready(lock, tmp_path / "c")
    assert "\n" not in str(caught.value)


def test_real_uv_refuses_a_file_that_the_lock_does_not_name(lock: Path, tmp_path: Path) -> None:
    lock.write_text(re.sub(r"sha256:\w+", f"sha256:{'0' * 64}", lock.read_text()))
    with pytest.raises(MissingPartError, match="its lock does not name"):
        environments.ready(lock, tmp_path / "c")


def test_without_uv_the_part_is_named(lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPartError, match=r"uv is not installed; install edgepack\[packager\]"):
        environments.ready(lock, tmp_path / "c")


def test_unknown_environment_is_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown environment 'caffe'; give some of boosters-1\.2, .*tensorflow"):
        selection.prepare(["caffe"], tmp_path)
    with pytest.raises(UsageError, match="unknown environment ''; give some of "):  # a variable that is not set
        selection.prepare([""], tmp_path)


@pytest.mark.parametrize(("typed", "meant"), [("sklern", "sklearn"), ("tensrflow", "tensorflow"), ("onx", "onnx")])
def test_unknown_environment_is_told_the_nearest_too(typed: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"unknown environment '{typed}'; did you mean '{meant}'. give some of "):
        selection.prepare([typed], tmp_path)


@pytest.mark.parametrize(
    ("called", "locks"),
    [("torch", ["pytorch"]), ("TF", ["tensorflow"]), ("keras", ["tensorflow"]), ("onnxruntime", ["onnx"])],
)
def test_environment_may_be_called_what_people_call_the_framework(
    called: str, locks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ready", lambda lock, cache: lock)
    assert [path.stem for path in selection.prepare([called], tmp_path)] == locks
    assert {path.stem.partition("-")[0] for path in selection.prepare(["xgb"], tmp_path)} == {"boosters"}


def test_command_that_prepares_has_help_and_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        prepare.main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert shown.startswith("usage: python -m converters.prepare")
    assert prepare.main(["--list"]) == 0
    names = capsys.readouterr().out.split()
    assert names == selection.lock_names()
    assert set(names) <= set(shown.replace(",", " ").replace(".\n", " ").split())


def test_command_that_prepares_says_what_it_made_or_why_not(own_cache: Path) -> None:
    command = [sys.executable, "-m", "converters.prepare"]
    made = subprocess.run([*command, "Onnx"], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        (folder,) = made.stdout.splitlines()
        assert (Path(folder) / "bin" / "python").exists()
    else:
        assert "cannot be fetched" in made.stderr
    wrong = subprocess.run([*command, "caffe"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: unknown environment 'caffe'; give some of ")
    assert "Traceback" not in made.stderr + wrong.stderr


# The real thing: one series of its own, made as a user's would be.


@pytest.fixture
def old(own_cache: Path) -> Path:
    """An environment of scikit-learn 1.5; skipped only where no package index is reachable."""
    try:
        return environments.ready(selection.LOCKS / "sklearn-1.5.txt", own_cache)
    except MissingPartError as error:
        if os.environ.get("EDGEPACK_REQUIRE_REAL") == "1":
            raise
        pytest.skip(str(error))


_TRAIN = """
import joblib, sys
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), sys.argv[1])
"""


@pytest.mark.usefixtures("namespaces")
def test_model_is_converted_by_the_version_that_trained_it(
    old: Path, tmp_path: Path, sklearn_to_onnx: Callable[..., Any]
) -> None:
    path = tmp_path / "m.joblib"
    subprocess.run([old / "bin" / "python", "-c", _TRAIN, str(path)], check=True)
    conversion = sklearn_to_onnx(path, offline=True)
    assert conversion.framework_version == "1.5.2"
    assert conversion.warnings == ()
    assert json.loads(conversion.report.read_text())["versions"]["scikit-learn"] == "1.5.2"


class Attacks:
    """A pickle of this tries to change the environment that reads it."""

    def __reduce__(self) -> tuple[Any, tuple[str, dict[str, Any]]]:
        return builtins.exec, (_ATTACK, {"_sklearn_version": "1.5.2"})


_ATTACK = """
import sklearn, sys, os
reached = []
for name, act in {
    "package": lambda: open(sklearn.__file__, "ab"),
    "folder": lambda: open(os.path.join(sys.prefix, "new"), "w"),
    "wheels": lambda: os.utime(sys.executable),
}.items():
    try:
        act()
        reached.append(name)
    except OSError:
        pass
raise ValueError(f"{sklearn.__version__} reached " + ",".join(reached) + ".")
"""


@pytest.mark.usefixtures("namespaces", "old")
def test_code_in_a_pickle_cannot_change_the_environment_that_reads_it(
    tmp_path: Path, sklearn_to_onnx: Callable[..., Any]
) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(Attacks()))
    with pytest.raises(ConversionError, match=r"1\.5\.2 reached \.\)"):
        sklearn_to_onnx(path)


@pytest.mark.usefixtures("old")
def test_pickle_that_another_version_cannot_read_names_those_that_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "SERIES", {(1, 5): (3, 99)})
    path = tmp_path / "m.pkl"
    path.write_bytes(
        b"\x80\x04\x8c\x0csklearn.gone\x94\x8c\x04Gone\x94\x93\x8c\x10_sklearn_version\x94\x8c\x060.24.2\x94."
    )
    with pytest.raises(ConversionError, match=r"trained with scikit-learn 0\.24\.2.*1\.5 .*can be had; train it again"):
        convert(path, framework="ScikitLearn", output_dir=tmp_path / "out")
