"""What stops the start, and with which exit code; where the configuration comes from."""

from __future__ import annotations

import json
import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_server import __version__
from edge_server.config.service_file import single_model, single_script
from edge_server.config.values import ServiceConfig
from edge_server.errors import ConfigurationError
from edge_server.listening import bind
from edge_server.models.files.onnx_file import check_onnx
from edge_server.models.running.threads import available_cpus
from tests.support.running import run

SERVICE = {
    "schema": "edgepack.service/v1",
    "models": [{"name": "iris", "version": 1, "path": "../iris/1", "file": "model.onnx"}],
    "entry_script": None,
    "host": "127.0.0.1",
    "port": 0,
    "limits": {"body_bytes": 1000},
    "logging": {"level": "info"},
}


def _service(tmp_path: Path, **changes: Any) -> Path:
    (tmp_path / "opt").mkdir(exist_ok=True)
    path = tmp_path / "opt" / "service.json"
    path.write_text(json.dumps({**SERVICE, **changes}))
    return path


def test_model_paths_count_from_the_configurations_folder(
    start: Callable[..., Any], converted: Path, tmp_path: Path
) -> None:
    assert start("--config", _service(tmp_path)).score({"data": [[5, 3, 1, 0]]})[0] == 200


def test_the_environment_overrides_the_file_and_a_flag_both(
    start: Callable[..., Any], converted: Path, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        path = _service(tmp_path, port=busy, logging={"level": "error"}, host="192.0.2.1")
        server = start(
            "--config",
            path,
            env={"EDGEPACK_PORT": "0", "EDGEPACK_HOST": "127.0.0.1", "EDGEPACK_LOG_LEVEL": "info"},
        )
        assert server.port != busy
        env = {"EDGEPACK_PORT": str(busy), "EDGEPACK_LOG_LEVEL": "info"}
        assert start("--config", path, "--port", "0", "--host", "127.0.0.1", env=env).port != busy


def test_all_violations_of_the_configuration_are_told_together(refused: Callable[..., Any], tmp_path: Path) -> None:
    path = _service(
        tmp_path,
        schema="edgepack.service/v9",
        models=[{"name": 5, "path": "x", "file": "../model.onnx"}],
        entry_script={"file": "../score.py"},
        port=70000,
        limits={"body_bytes": "big"},
        logging={"level": "loud"},
        prot=5,
    )
    result = refused("--config", path)
    assert result.code == 2
    assert result.stderr.count("\n") == 1
    for field in (
        "service.json",
        "schema",
        "models[0].name",
        "models[0].version",
        "models[0].file",
        "entry_script.file",
        "port",
        "limits.body_bytes",
        "logging.level",
        "prot",
    ):
        assert field in result.stderr


@pytest.mark.parametrize("models", [[], [SERVICE["models"][0]] * 2, None, "x"])  # type: ignore[index]
def test_the_configuration_names_models_each_once(refused: Callable[..., Any], tmp_path: Path, models: Any) -> None:
    result = refused("--config", _service(tmp_path, models=models))
    assert result.code == 2
    assert "models" in result.stderr


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_configuration_that_is_no_json_object_is_wrong_input(
    refused: Callable[..., Any], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "service.json").write_bytes(content)
    result = refused("--config", tmp_path / "service.json")
    assert result.code == 2
    assert "service.json" in result.stderr


def test_wrong_environment_is_wrong_input(refused: Callable[..., Any], converted: Path) -> None:
    env = {"EDGEPACK_PORT": "many", "EDGEPACK_LOG_LEVEL": "loud"}
    result = refused("--model", converted / "model.onnx", env=env)
    assert result.code == 2
    assert "EDGEPACK_PORT" in result.stderr
    assert "EDGEPACK_LOG_LEVEL" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--model", "a", "--config", "b"], ["--model", "a", "--port", "x"]])
def test_wrong_usage_is_code_2(refused: Callable[..., Any], arguments: list[str]) -> None:
    assert refused(*arguments).code == 2


def test_missing_files_are_code_3(refused: Callable[..., Any], converted: Path, tmp_path: Path) -> None:
    for arguments in (["--config", tmp_path / "no.json"], ["--model", tmp_path / "no.onnx"]):
        result = refused(*arguments)
        assert result.code == 3
        assert "no." in result.stderr
    (converted / "golden.json").unlink()
    assert refused("--model", converted / "model.onnx", "--port", "0").code == 3


def test_a_taken_port_is_told_in_one_sentence(refused: Callable[..., Any], converted: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = refused("--model", converted / "model.onnx", "--port", str(taken.getsockname()[1]))
    assert result.code == 1
    assert result.stderr.count("\n") == 1
    assert "Address already in use" in result.stderr


def test_a_file_that_is_no_model_is_told_in_one_sentence(refused: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    result = refused("--model", tmp_path / "broken.onnx", "--port", "0")
    assert result.code == 2
    assert result.stderr.count("\n") == 1
    assert "broken.onnx: is not an ONNX file" in result.stderr
    assert "edgepack model convert" in result.stderr
    assert "--entry-script" in result.stderr
    assert "ONNXRuntimeError" not in result.stderr


def test_what_is_no_whole_onnx_file_is_told_from_what_is(iris_file: Path, tmp_path: Path) -> None:
    check_onnx(iris_file)
    whole = iris_file.read_bytes()
    for content in (b"", b"a,b\n1,2\n", pickle.dumps([1.0] * 100), whole[:-1], whole[: len(whole) // 2], whole + b"x"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ConfigurationError, match="is not an ONNX file"):
            check_onnx(tmp_path / "x")


def test_a_model_that_the_runtime_cannot_run_is_code_1(refused: Callable[..., Any], tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    graph = helper.make_graph(
        [helper.make_node("NoSuchOperator", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [None])],
        [helper.make_tensor_value_info("y", 1, [None])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "odd.onnx")
    result = refused("--model", tmp_path / "odd.onnx", "--port", "0")
    assert result.code == 1
    assert "cannot load" not in result.stderr
    assert "odd.onnx" in result.stderr


def test_a_folder_stands_for_its_only_model(tmp_path: Path) -> None:
    for command in (single_model, lambda path: single_script(path, None)):
        with pytest.raises(ConfigurationError, match=r"is a folder; name an? \.(onnx|py) file in it"):
            command(tmp_path)
    (tmp_path / "churn.onnx").touch()
    assert single_model(tmp_path).models[0].path == tmp_path / "churn.onnx"
    (tmp_path / "other.onnx").touch()
    with pytest.raises(ConfigurationError, match="is a folder"):
        single_model(tmp_path)
    (tmp_path / "model.onnx").touch()
    assert single_model(tmp_path).models[0].path == tmp_path / "model.onnx"


def test_the_version_is_told(refused: Callable[..., Any]) -> None:
    result = refused("--version")
    assert (result.code, result.stdout) == (0, f"{__version__}\n")


def test_origins_that_are_none_are_told_with_who_says_them(refused: Callable[..., Any], iris_file: Path) -> None:
    result = refused("--model", iris_file, "--port", "0", env={"AML_CORS_ORIGINS": "app.example/page"})
    assert result.code == 2
    assert "AML_CORS_ORIGINS: 'https://app.example/page' is not" in result.stderr


def test_what_may_surprise_is_logged_at_the_start(start: Callable[..., Any], iris_file: Path, tmp_path: Path) -> None:
    model = {"name": "iris", "version": 1, "path": str(iris_file.parent), "file": iris_file.name}
    collection = {"folder": "collected"}
    path = _service(tmp_path, models=[model], runtime={"memory_bytes": 10}, collection=collection)
    server = start("--config", path)
    status, answer = server.score({"data": [[1, 2, 3, 4]]})
    assert status == 507
    assert "of the 10 bytes that runtime.memory_bytes allows" in answer["message"]
    server.stop()
    told = "".join(server.lines)
    assert "larger than runtime.memory_bytes" in told
    assert "needs collection.automatic" in told
    server = start("--model", iris_file, "--port", "0")
    server.stop()
    assert "the model has no manifest" in "".join(server.lines)


def _golden(folder: Path) -> Any:
    return json.loads((folder / "golden.json").read_text())


def test_a_golden_number_that_differs_stops_the_start_with_numbers(
    refused: Callable[..., Any], rewrite: Callable[..., Path], converted: Path
) -> None:
    golden = _golden(converted)
    golden["outputs"]["probabilities"][2][1] += 0.25
    result = refused("--model", rewrite(golden) / "model.onnx", "--port", "0")
    assert result.code == 1
    assert "'probabilities' differs in 1 of 15 values" in result.stderr
    assert "0.25 apart" in result.stderr
    assert "[2, 1]" in result.stderr


def test_a_golden_label_that_differs_stops_the_start(
    refused: Callable[..., Any], rewrite: Callable[..., Path], converted: Path
) -> None:
    golden = _golden(converted)
    golden["outputs"]["label"][0] = 2
    result = refused("--model", rewrite(golden) / "model.onnx", "--port", "0")
    assert result.code == 1
    assert "'label' differs in 1 of 5 values; first at [0]: 0 instead of 2" in result.stderr


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"outputs": {"label": [0]}}, 1),
        ({"outputs": {"label": [[0], [0, 1]]}}, 2),
        ({"outputs": {"nothing": [0]}}, 2),
        ({"inputs": {"features": [[1]]}}, 2),
        ({"inputs": [1]}, 2),
    ],
)
def test_golden_vectors_that_do_not_fit_stop_the_start(
    refused: Callable[..., Any], rewrite: Callable[..., Path], converted: Path, change: Any, code: int
) -> None:
    result = refused("--model", rewrite({**_golden(converted), **change}) / "model.onnx", "--port", "0")
    assert result.code == code
    assert "golden.json" in result.stderr
    assert "Traceback" not in result.stderr


def test_altered_golden_vectors_stop_the_start(refused: Callable[..., Any], converted: Path) -> None:
    with (converted / "golden.json").open("a") as file:
        file.write(" ")
    result = refused("--model", converted / "model.onnx", "--port", "0")
    assert result.code == 1
    assert "digest" in result.stderr


def test_all_violations_of_a_manifest_are_told_together(
    refused: Callable[..., Any], rewrite: Callable[..., Path]
) -> None:
    folder = rewrite(
        inputs=[{"name": "x", "graph_name": "X", "dtype": "float31", "shape": [None, "four"]}],
        methods={"default": "guess", "predict": ["nothing"]},
        rejects={"nan": "yes"},
        golden={"file": "../golden.json", "digest": "md5:0", "rtol": 0, "atol": 0},
        minimum_runtime="new",
    )
    result = refused("--model", folder / "model.onnx", "--port", "0")
    assert result.code == 2
    for field in (
        "model.manifest.json",
        "inputs[0].dtype",
        "inputs[0].shape",
        "methods.default",
        "methods.predict",
        "rejects.nan",
        "golden.file",
        "golden.digest",
        "minimum_runtime",
    ):
        assert field in result.stderr


def test_a_manifest_of_another_graph_stops_the_start(refused: Callable[..., Any], rewrite: Callable[..., Path]) -> None:
    folder = rewrite(
        file="other.onnx",
        inputs=[{"name": "x", "graph_name": "Y", "dtype": "float32", "shape": [None, 4]}],
        outputs=[{"name": n, "graph_name": n + "s"} for n in ("label", "probabilities")],
    )
    result = refused("--model", folder / "model.onnx", "--port", "0")
    assert result.code == 2
    for part in ("other.onnx", "'Y'", "'X'", "'labels'", "'probabilitiess'"):
        assert part in result.stderr


def test_a_runtime_that_is_too_old_stops_the_start(refused: Callable[..., Any], rewrite: Callable[..., Path]) -> None:
    result = refused("--model", rewrite(minimum_runtime="99.1") / "model.onnx", "--port", "0")
    assert result.code == 1
    assert "99.1" in result.stderr


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "10000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/a\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "90000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
    ],
)
def test_threads_follow_the_cpu_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert available_cpus(tmp_path) == (4 if expected is None else expected)


def test_the_listener_lets_asyncio_turn_nagle_off() -> None:
    with bind(ServiceConfig((), "127.0.0.1", 0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_the_server_imports_only_what_its_layer_holds(tmp_path: Path) -> None:
    names = "argparse, edge_server.run, edge_server.models.service, httptools, orjson"
    code = (
        f"import sys; import edge_server.__main__, edge_server.main, {names}\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "third = tops - set(sys.stdlib_module_names)\n"
        "print(*sorted(name for name in third if not name.startswith(('_', 'cython'))))"
    )
    # -S keeps out what the site's own .pth files load; the packages' folder is then given by hand.
    paths = [path for path in sys.path if path]
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {paths!r}\n{code}"]
    output = run(*command)
    assert output.split() == ["edge_server", "httptools", "numpy", "onnxruntime", "orjson"]
