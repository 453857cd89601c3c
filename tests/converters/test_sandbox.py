"""Untrusted files reach nothing, whatever they are."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from converters import Conversion, convert
from converters.sandbox import launch
from edgepack.errors import ConversionError, NotFoundError, UsageError

Save = Callable[..., Path]
Convert = Callable[..., Conversion]


class Runs:
    """A pickle of this runs ``code`` when it is read."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, tuple[str, dict[str, Any]]]:
        return builtins.exec, (self.code, {})


ATTACK = """
import os, socket
reached = []
def attempt(name, act):
    try:
        act()
        reached.append(name)
    except (OSError, KeyError):
        pass
attempt("home", lambda: open({home!r} + "/.edgepack-attack", "w"))
attempt("secret", lambda: open({secret!r}).read())
attempt("beside", lambda: os.listdir({beside!r}))
attempt("input", lambda: open({model!r}, "ab"))
attempt("interpreter", lambda: open(os.__file__, "ab"))
attempt("network", lambda: socket.create_connection(("127.0.0.1", {port}), 2))
attempt("parent", lambda: os.kill({pid}, 0))
attempt("environment", lambda: os.environ["EDGEPACK_TEST_TOKEN"])
attempt("mount", lambda: os.stat("/etc/passwd"))
raise ValueError("reached " + ",".join(reached) + ".")
"""


@pytest.mark.usefixtures("namespaces")
def test_malicious_pickle_reaches_nothing(
    save: Save, sklearn_to_onnx: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_TEST_TOKEN", "token")
    secret = tmp_path / "secrets" / "key.pem"
    secret.parent.mkdir()
    secret.write_text("secret")
    home = Path.home()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        code = ATTACK.format(
            home=str(home),
            secret=str(secret),
            beside=str(secret.parent),
            model=str(tmp_path / "model.joblib"),
            port=server.getsockname()[1],
            pid=os.getpid(),
        )
        with pytest.raises(ConversionError, match=r"\(ValueError: reached \.\)"):
            sklearn_to_onnx(save(Runs(code)))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not (home / ".edgepack-attack").exists()


def test_attack_has_teeth_where_nothing_holds_it(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    code = ATTACK.format(
        home=str(tmp_path), secret=__file__, beside="/", model=str(tmp_path / "model"), port=9, pid=os.getpid()
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "reached home,secret,beside,input," in done.stderr


def test_model_that_never_ends_is_ended_with_all_that_it_started(
    save: Save, sklearn_to_onnx: Convert, tmp_path: Path
) -> None:
    code = "import os, time\nif os.fork() == 0 and {escape}:\n    os.setsid()\ntime.sleep(120)"
    escape = launch.available().kind == "namespaces"  # else a new session gets away, as the report says
    began = time.monotonic()
    with pytest.raises(ConversionError, match="longer than 3 seconds and was stopped; allow more time"):
        sklearn_to_onnx(save(Runs(code.format(escape=escape))), timeout=3)
    assert time.monotonic() - began < 100  # of 120 s
    assert _processes_naming(tmp_path) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["refusal.json"]


def _processes_naming(path: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(path).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_model_larger_than_the_memory_limit_is_refused(save: Save, sklearn_to_onnx: Convert) -> None:
    with pytest.raises(ConversionError, match="memory limit; raise the limit"):
        sklearn_to_onnx(save(Runs("bytearray(6 << 30)")), memory=4 << 30)


def test_process_that_dies_is_one_sentence(save: Save, sklearn_to_onnx: Convert) -> None:
    with pytest.raises(ConversionError, match=r"ended unexpectedly .*; raise the memory limit"):
        sklearn_to_onnx(save(Runs("import os; os.abort()")))


def test_process_that_ends_by_an_error_of_its_own_is_not_told_to_lack_memory(
    save: Save, sklearn_to_onnx: Convert
) -> None:
    with pytest.raises(ConversionError, match=r"ended unexpectedly \(exit code 3") as raised:
        sklearn_to_onnx(save(Runs("raise SystemExit(3)")))
    assert "memory" not in str(raised.value)


def test_a_process_whose_caller_died_before_it_began_does_nothing(
    save: Save, sklearn_to_onnx: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells it of no death that was before it asked; seen as another parent than the caller."""
    if shutil.which("setpriv") is None:
        pytest.skip("not installed: setpriv")
    monkeypatch.setattr(launch, "_caller", os.getppid)
    with pytest.raises(ConversionError, match="exit code 1"):
        sklearn_to_onnx(save(LogisticRegression().fit([[0.0], [1.0]], [0, 1])))


def test_links_left_for_the_caller_are_not_followed(save: Save, sklearn_to_onnx: Convert, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"ok": true}')
    code = f"""
import os, sys
folder = os.path.dirname(sys.argv[1])
for name in ("response.json", "model.onnx", "model.manifest.json", "parity.json", "tried.json"):
    os.symlink({str(secret)!r}, os.path.join(folder, name))
os._exit(0)
"""
    with pytest.raises(ConversionError, match="code in the model ended the process"):
        sklearn_to_onnx(save(Runs(code)))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["refusal.json"]


def test_without_namespaces_the_report_says_so(
    save: Save, sklearn_to_onnx: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.available.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        less = launch.available()
    launch.available.cache_clear()
    assert less.kind == "process"
    monkeypatch.setattr(launch, "available", lambda: less)
    x, y = load_iris(return_X_y=True)
    conversion = sklearn_to_onnx(save(LogisticRegression(max_iter=500).fit(x, y)))
    isolation = json.loads(conversion.report.read_text())["isolation"]
    assert isolation["kind"] == "process"
    assert isolation["network"] == "the machine's"
    assert "unshare" in isolation["reason"]


@pytest.mark.usefixtures("namespaces")
def test_with_namespaces_the_report_says_so(save: Save, sklearn_to_onnx: Convert) -> None:
    x, y = load_iris(return_X_y=True)
    conversion = sklearn_to_onnx(save(LogisticRegression(max_iter=500).fit(x, y)))
    isolation = json.loads(conversion.report.read_text())["isolation"]
    assert (isolation["kind"], isolation["network"], isolation["reason"]) == ("namespaces", "none", None)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a whole pickle or joblib file"),
        (b"a,b\n1,2\n", "unpickled|not a whole pickle"),
        (b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00\x8c", "not a whole pickle or joblib file"),
        (b"c__main__\nGone\n.", "class or function that is missing.*Gone"),
        (b"cchurn_lib.models\nModel\n.", "module 'churn_lib', which is not installed"),
        (b"}.", "holds a dict, which neither predicts nor transforms rows"),
    ],
    ids=["empty", "text", "truncated", "class gone", "module gone", "dict"],
)
def test_file_that_holds_no_model_is_one_sentence(
    data: bytes, sentence: str, tmp_path: Path, sklearn_to_onnx: Convert
) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    with pytest.raises(ConversionError, match=sentence) as caught:
        sklearn_to_onnx(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("framework", "sentence"),
    [("Custom", "without a framework.*--framework Onnx"), ("Caffe", "give one of ScikitLearn")],
)
def test_unknown_framework_is_refused_with_a_hint(framework: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        convert(tmp_path / "m", framework=framework, output_dir=tmp_path)


def test_missing_file_is_not_found(tmp_path: Path, sklearn_to_onnx: Convert) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.pkl"):
        sklearn_to_onnx(tmp_path / "gone.pkl")


def test_folder_with_two_models_is_not_guessed_at(tmp_path: Path, sklearn_to_onnx: Convert) -> None:
    for name in ("a.pkl", "b.joblib"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"has 2 ScikitLearn model files.*; name the file itself"):
        sklearn_to_onnx(tmp_path)


def test_importing_converters_loads_no_framework() -> None:
    code = "import sys, converters; print([m for m in sys.modules if m.split('.')[0] in " + repr(
        ("numpy", "sklearn", "onnx", "onnxruntime", "joblib", "pandas", "skl2onnx", "scipy", "click")
    )
    done = subprocess.run([sys.executable, "-c", code + "])"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
