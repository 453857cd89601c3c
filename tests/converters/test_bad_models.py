"""What cannot be converted gets one sentence that says what to do, exit code 1 or 2, and leaves nothing half done."""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
import sklearn
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from converters import Options, convert
from converters.onnx import convert as onnx_converter
from converters.sklearn.loading import LZ4, _without_paths, load
from converters.software import environments
from edgepack.errors import ConversionError, EdgepackError, UsageError
from edgepack.limits import LIMITS
from tests.support import forked
from tests.support.running import Done, finish
from tests.support.waiting import wait_until

PAGE = b"<!DOCTYPE html>\n<title>404</title>"
EDGEPACK = [sys.executable, "-c", "import sys; from packager.commands.main import main; sys.exit(main())"]


class Runs:
    """A pickle of this runs ``code`` when it is read."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, tuple[str, dict[str, Any]]]:
        return builtins.exec, (self.code, {})


@pytest.fixture(scope="module")
def model() -> LogisticRegression:
    x, y = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=500).fit(x, y)


@pytest.fixture(scope="module")
def trained(model: LogisticRegression) -> bytes:
    return pickle.dumps(model)


def _refused(path: Path, framework: str, tmp_path: Path, **arguments: Any) -> EdgepackError:
    """The refusal, which is one sentence with a hint and leaves nothing but its report, which it names."""
    with pytest.raises(EdgepackError) as caught:
        convert(path, framework=framework, output_dir=tmp_path / "out", **arguments)
    error = caught.value
    assert error.exit_code in (1, 2)
    assert error.hint
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)
    report = getattr(error, "report", None)
    text = str(error) if report is None else str(error).replace(str(report), "")
    assert str(tmp_path) not in text
    out = tmp_path / "out"
    assert (list(out.iterdir()) if out.exists() else []) == ([] if report is None else [report])
    if report is not None:
        document = json.loads(report.read_bytes())
        assert (document["schema"], document["refusal"]["what"]) == ("edgepack.refusal/v1", error.what)
        assert str(tmp_path) not in report.read_text()
    return error


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize(
    ("name", "data"), [("m.pkl", PAGE), ("m.skops", PAGE), ("m.ubj", b""), ("m.json", PAGE), ("m.cbm", PAGE)]
)
def test_file_of_something_else_is_told_apart(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    error = _refused(path, "ScikitLearn", tmp_path)
    assert re.search(r"not a whole pickle or joblib file|not in a supported format|not a whole \w+ model", error.what)


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize("part", [0.1, 0.99])
def test_file_that_was_cut_short_is_to_be_copied_again(part: float, trained: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(trained[: int(len(trained) * part)])
    assert "copy it again" in str(_refused(path, "ScikitLearn", tmp_path))


@pytest.mark.usefixtures("without_sandbox")
def test_damage_in_a_compressed_file_is_one_sentence(model: LogisticRegression, tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    joblib.dump(model, path, compress=3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8] = b"\0" * 8
    path.write_bytes(data)
    _refused(path, "ScikitLearn", tmp_path)


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import os; os._exit(0)", "code in the model ended the process that opened it; save the model without"),
        ("import ctypes; ctypes.string_at(0)", r"ended unexpectedly \(SIGSEGV\)"),
        ("open('/tmp/x', 'wb').write(b'0' * (600 << 20))", "No space left on device"),
        ("raise RuntimeError('one\\ntwo\\x1b[31m' + 'x' * 100000)", "RuntimeError: one"),
    ],
    ids=["exit", "crash", "fills the disk", "long"],
)
def test_code_in_a_pickle_that_ends_badly_is_one_sentence(code: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    joblib.dump(Runs(code), path)
    error = _refused(path, "ScikitLearn", tmp_path)
    assert re.search(sentence, str(error))
    assert len(str(error)) < 1000


@pytest.mark.usefixtures("namespaces")
def test_answer_that_a_pickle_forges_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    code = "import os\nopen(os.environ['TMPDIR'] + '/../response.json', 'w').write('{\"ok\": true}')\nos._exit(0)"
    joblib.dump(Runs(code), path)
    assert "produced an invalid package" in str(_refused(path, "ScikitLearn", tmp_path))


def test_model_of_a_version_that_cannot_be_had_names_those_that_can(trained: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    ours = sklearn.__version__.encode()
    path.write_bytes(trained.replace(b"\x8c" + bytes([len(ours)]) + ours, b"\x8c\x060.22.2"))
    if os.environ.get("EDGEPACK_REQUIRE_REAL") != "1" and not list(
        (tmp_path / f"cache/{environments.FOLDER}").glob("sklearn-1.2-*")
    ):
        pytest.skip("the environment of scikit-learn 1.2 is not prepared")
    error = _refused(path, "ScikitLearn", tmp_path)
    assert re.search(r"trained with scikit-learn 0\.22\.2, and versions 1\.2 to 1\.\d+ can be had", error.what)
    assert "train it again with one of these" in str(error)


def _onnx(path: Path, operator: str, domain: str = "", opset: int = 17) -> Path:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], domain=domain)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )
    sets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save_model(helper.make_model(graph, opset_imports=sets, ir_version=8), path)
    return path


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize(
    ("operator", "domain", "opset", "sentence"),
    [
        ("Frobnicate", "", 17, "Frobnicate.*export it again"),
        (
            "Foo",
            "com.acme",
            17,
            "cannot load.*com.acme:Foo.*export it with operators and an opset that this runtime has",
        ),
        ("Relu", "", 99, r"opset 99, this runtime takes up to \d+"),
    ],
)
def test_graph_of_what_the_runtime_lacks_names_it(
    operator: str, domain: str, opset: int, sentence: str, tmp_path: Path
) -> None:
    error = _refused(_onnx(tmp_path / "m.onnx", operator, domain, opset), "Onnx", tmp_path)
    assert re.search(sentence, str(error))


def test_weights_beyond_what_one_onnx_file_holds_are_refused_with_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _onnx(tmp_path / "m.onnx", "Relu")
    found = onnx.load(path)
    found.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(400, np.float32), "w"))
    onnx.save_model(found, path, save_as_external_data=True, size_threshold=0)
    monkeypatch.setattr(onnx_converter, "LIMITS", replace(LIMITS, protobuf_bytes=1600))
    with pytest.raises(ConversionError, match=r"larger than the 2 GiB.*; make it smaller"):
        onnx_converter.convert(path, "sha256:0", Options())


# The largest takes ten seconds to read alone.
@pytest.mark.parametrize("size", [(64 << 20) + 4096, pytest.param((2 << 30) + 4096, marks=pytest.mark.whole)])
def test_large_file_that_is_no_model_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    with path.open("wb") as file:
        file.truncate(size)  # holes: it takes no space
    assert "not a whole pickle" in str(_refused(path, "ScikitLearn", tmp_path))


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize(
    ("framework", "options", "sentence"),
    [
        (
            "ScikitLearn",
            Options(entry="net:build"),
            "a ScikitLearn model has no entry, only PyTorch.*leave out --entry",
        ),
        ("PyTorch", Options(signature="serve"), "a PyTorch model has no signature, only TensorFlow"),
        (
            "ScikitLearn",
            Options(tolerances={"probability": 0.1}),
            "no output 'probability'.*label, probabilities, scores",
        ),
    ],
)
def test_option_that_would_do_nothing_is_refused(
    framework: str, options: Options, sentence: str, trained: bytes, tmp_path: Path
) -> None:
    (tmp_path / "m.pkl").write_bytes(trained)
    error = _refused(tmp_path / "m.pkl", framework, tmp_path, options=options)
    assert isinstance(error, UsageError)
    assert re.search(sentence, str(error))


@pytest.fixture
def command(tmp_path: Path, own_cache: Path) -> Callable[..., Done]:
    def run(*arguments: str | Path, front: tuple[str, ...] = ()) -> Done:
        if not front:
            return forked.finish("edgepack", *arguments, env=_environment(tmp_path))
        return finish(*front, *EDGEPACK, *arguments, env=_environment(tmp_path))

    return run


def _environment(tmp_path: Path) -> dict[str, str]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return {**os.environ, "EDGEPACK_WORKSPACE": str(tmp_path / "workspace"), "TMPDIR": str(scratch)}


def _registered(command: Any, model: Any, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "m.joblib")
    assert command("model", "register", "-n", "m", "-p", tmp_path / "m.joblib").code == 0


def test_time_that_a_conversion_may_take_is_the_users_to_say(command: Any, tmp_path: Path) -> None:
    _registered(command, Runs("import time; time.sleep(60)"), tmp_path)
    done = command("model", "convert", "-m", "m", "--timeout", "1.5")
    assert done.code == 1
    assert re.search(r"m\.joblib: the conversion took longer than 1\.5 seconds.*--timeout SECONDS", done.stderr)
    assert _left(tmp_path) == []
    for wrong in ("0", "-1", "soon"):
        assert command("model", "convert", "-m", "m", "--timeout", wrong).code == 2


def test_memory_that_a_conversion_may_take_is_the_users_to_say(command: Any, tmp_path: Path) -> None:
    _registered(command, Runs("bytearray(3 << 30)"), tmp_path)
    done = command("model", "convert", "-m", "m", "--memory", "2")
    assert done.code == 1
    assert re.search(r"memory limit; raise the limit", done.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_command_that_is_stopped_leaves_no_process_and_no_package(
    number: signal.Signals, command: Any, tmp_path: Path
) -> None:
    if number == signal.SIGKILL and shutil.which("setpriv") is None:
        pytest.skip("not installed: setpriv")
    _registered(command, Runs("import time; time.sleep(60)"), tmp_path)
    with subprocess.Popen(
        [*EDGEPACK, "model", "convert", "-m", "m"],
        env=_environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until(lambda: any("converters.sandbox.worker" in line for line in _left(tmp_path)))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    wait_until(lambda: _left(tmp_path) == [])
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines()[-1] == "edgepack: stopped"
        assert list((tmp_path / "scratch").iterdir()) == []
    found = command("model", "list", "--output", "json")
    assert '"converted": false' in found.stdout


def _left(tmp_path: Path) -> list[str]:
    """Command lines of processes that convert something of this test's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(tmp_path / "scratch") in line:
            found.append(line)
    return found


@pytest.mark.usefixtures("namespaces")
def test_full_disk_is_one_sentence_and_the_same_command_works_later(
    command: Any, model: LogisticRegression, tmp_path: Path
) -> None:
    _registered(command, model, tmp_path)
    scratch = tmp_path / "scratch"
    script = f'mount -t tmpfs -o size=8k none "{scratch}" && exec "$0" "$@"'
    full = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
    done = command("model", "convert", "-m", "m", front=full)
    assert done.code == 1, done.stderr
    assert re.search(r"no space left.*free some space and run the same command again", done.stderr, re.IGNORECASE)
    assert "Traceback" not in done.stderr
    assert command("model", "convert", "-m", "m").code == 0


def test_two_commands_at_once_convert_the_same_model_to_the_same(
    command: Any, model: LogisticRegression, tmp_path: Path
) -> None:
    _registered(command, model, tmp_path)
    line = [*EDGEPACK, "model", "convert", "-m", "m", "--again", "--output", "json"]
    both = [
        subprocess.Popen(line, env=_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_missing_function_is_named_without_the_paths_of_this_machine() -> None:
    told = "Can't get attribute 'double' on <module '__main__' from '/home/me/it's here/train.py'>"
    assert _without_paths(told) == "Can't get attribute 'double' on <module '__main__'>"
    assert _without_paths("Can't get attribute 'f' on <module 'm' (/opt/x y/m.py)>") == (
        "Can't get attribute 'f' on <module 'm'>"
    )
    assert _without_paths("Can't get <function f at 0x7f12ab>") == "Can't get <function f>"
    assert _without_paths("cannot import name 'a' from 'b' (/opt/b.py)") == "cannot import name 'a' from 'b'"


@pytest.mark.skipif(importlib.util.find_spec("lz4") is not None, reason="lz4 is installed")
def test_a_file_of_a_compression_that_is_missing_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    path.write_bytes(LZ4 + b"\x64\x40" + bytes(40))
    with pytest.raises(ConversionError, match="compressed with LZ4, which is not installed") as refused:
        load(path)
    assert "compress=3" in str(refused.value.hint)
