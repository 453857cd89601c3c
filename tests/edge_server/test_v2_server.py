"""The V2 protocol over a real server, asked by Triton's own client and by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.http as triton
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from tests.edge_server.support import models
from tests.support import http_client

Start = Callable[..., Any]

KINDS = {
    "BOOL": (TensorProto.BOOL, np.array([[True, False], [False, True]])),
    "INT8": (TensorProto.INT8, np.array([[-128, 127], [0, 1]], np.int8)),
    "INT16": (TensorProto.INT16, np.array([[-(2**15), 2**15 - 1], [0, 1]], np.int16)),
    "INT32": (TensorProto.INT32, np.array([[-(2**31), 2**31 - 1], [0, 1]], np.int32)),
    "INT64": (TensorProto.INT64, np.array([[-(2**63), 2**63 - 1], [0, 1]], np.int64)),
    "UINT8": (TensorProto.UINT8, np.array([[0, 255], [1, 2]], np.uint8)),
    "UINT16": (TensorProto.UINT16, np.array([[0, 2**16 - 1], [1, 2]], np.uint16)),
    "UINT32": (TensorProto.UINT32, np.array([[0, 2**32 - 1], [1, 2]], np.uint32)),
    "UINT64": (TensorProto.UINT64, np.array([[0, 2**64 - 1], [1, 2]], np.uint64)),
    "FP16": (TensorProto.FLOAT16, np.array([[0.5, -2], [3, 65504]], np.float16)),
    "FP32": (TensorProto.FLOAT, np.array([[0.1, -2], [3, 3.4e38]], np.float32)),
    "FP64": (TensorProto.DOUBLE, np.array([[0.1, -2], [3, 1.7e308]], np.float64)),
    "BYTES": (TensorProto.STRING, np.array([["", "a"], ["жук", "\x00"]], object)),
}


def save_mirror(path: Path) -> Path:
    """A graph that answers each of its inputs, one of every kind, as it is."""
    nodes, inputs, outputs = [], [], []
    for name, (kind, _) in KINDS.items():
        inputs.append(helper.make_tensor_value_info(f"in_{name}", kind, ["rows", 2]))
        outputs.append(helper.make_tensor_value_info(f"out_{name}", kind, ["rows", 2]))
        nodes.append(helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]))
    graph = helper.make_graph(nodes, "mirror", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@contextmanager
def client(port: int, **options: Any) -> Iterator[triton.InferenceServerClient]:
    asking = triton.InferenceServerClient(f"127.0.0.1:{port}", **options)
    try:
        yield asking
    finally:
        asking.close()


def tensor(name: str, array: np.ndarray, datatype: str, *, binary: bool = True) -> triton.InferInput:
    return triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, binary_data=binary)


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    """One request by hand; the answer's body as parsed JSON."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    answer = http_client.ask(port, method, path, content, headers)
    return answer.status, answer.headers, answer.json if answer.body else None


@pytest.fixture
def several(tmp_path: Path, converted: Path) -> Path:
    """A service of the forest in two versions, and of the mirror."""
    save_mirror(tmp_path / "mirror.onnx")
    document = {
        "schema": "edgepack.service/v1",
        "host": "127.0.0.1",
        "port": 0,
        "models": [
            {"name": "iris", "version": version, "path": str(converted), "file": "model.onnx"} for version in (1, 2)
        ]
        + [{"name": "mirror", "version": 7, "path": str(tmp_path), "file": "mirror.onnx"}],
        "limits": {"body_bytes": 100_000},
    }
    path = tmp_path / "service.json"
    path.write_text(json.dumps(document))
    return path


def test_tritons_client_gets_every_kind_of_tensor_back(start: Start, tmp_path: Path) -> None:
    server = start("--model", save_mirror(tmp_path / "mirror.onnx"), "--port", 0)
    with client(server.port) as asking:
        for binary in ({*KINDS}, {"FP16"}, {"FP16", "BYTES", "INT32"}):
            inputs = [tensor(f"in_{name}", array, name, binary=name in binary) for name, (_, array) in KINDS.items()]
            wanted = [triton.InferRequestedOutput(f"out_{name}", binary_data=name in binary) for name in KINDS]
            found = asking.infer("mirror", inputs, outputs=wanted, request_id="every kind")
            assert found.get_response()["id"] == "every kind"
            for name, (_, array) in KINDS.items():
                answer = found.as_numpy(f"out_{name}")
                if name == "BYTES" and name in binary:
                    answer = np.array([text.decode() for text in answer.flat], object).reshape(answer.shape)
                assert answer.dtype == array.dtype
                assert np.array_equal(answer, array)
        everything = asking.infer("mirror", inputs)
        assert [output["name"] for output in everything.get_response()["outputs"]] == [f"out_{name}" for name in KINDS]
        with pytest.raises(InferenceServerException, match="FP16, which can only be sent as binary data"):
            asking.infer("mirror", inputs, outputs=[triton.InferRequestedOutput("out_FP16", binary_data=False)])


def test_text_for_numbers_is_told_by_the_datatype(start: Start, several: Path) -> None:
    server = start("--config", several)
    for data in (["1", "2", "3", "4"], [1, 2, 3, 4]):
        entry = {"name": "features", "datatype": "BYTES", "shape": [1, 4], "data": data}
        _, _, body = server.request("POST", "/v2/models/iris/infer", json.dumps({"inputs": [entry]}).encode())
        assert json.loads(body)["error"] == "input 'features' is BYTES, the model takes FP32"


def test_tritons_client_finds_out_what_is_served(start: Start, several: Path) -> None:
    server = start("--config", several)
    with client(server.port) as asking:
        assert asking.is_server_live()
        assert asking.is_server_ready()
        assert asking.get_server_metadata()["extensions"][0] == "binary_tensor_data"
        assert asking.is_model_ready("iris")
        assert asking.is_model_ready("iris", "2")
        assert not asking.is_model_ready("iris", "3")
        assert not asking.is_model_ready("rose")
        assert asking.get_model_metadata("iris", "1") == {
            "name": "iris",
            "versions": ["1", "2"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [
                {"name": "label", "datatype": "INT64", "shape": [-1]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
            ],
        }
        mirror = asking.get_model_metadata("mirror")
        assert [entry["datatype"] for entry in mirror["inputs"]] == list(KINDS)
        assert [entry["shape"] for entry in mirror["outputs"]] == [[-1, 2]] * len(KINDS)
        index = asking.get_model_repository_index()
        assert [(entry["name"], entry["version"], entry["state"]) for entry in index] == [
            ("iris", "1", "READY"),
            ("iris", "2", "READY"),
            ("mirror", "7", "READY"),
        ]


def test_a_converted_model_answers_as_its_original(start: Start, several: Path, iris: Any) -> None:
    server = start("--config", several)
    rows = np.array(iris.rows, np.float32)
    with client(server.port) as asking:
        for version in ("", "1"):
            found = asking.infer("iris", [tensor("features", rows, "FP32")], model_version=version)
            assert found.get_response()["model_version"] == (version or "2")
            assert np.array_equal(found.as_numpy("label"), iris.model.predict(rows))
            assert np.allclose(found.as_numpy("probabilities"), iris.model.predict_proba(rows), atol=1e-5)
        one = asking.infer("iris", [tensor("features", rows, "FP32")], parameters={"method": "predict"})
        assert [output["name"] for output in one.get_response()["outputs"]] == ["label"]
        wanted = [triton.InferRequestedOutput("probabilities", binary_data=False)]
        for encoding in ("gzip", "deflate"):
            found = asking.infer(
                "iris", [tensor("features", rows, "FP32")], outputs=wanted, request_compression_algorithm=encoding
            )
            assert found.get_response()["outputs"][0]["shape"] == [len(rows), 3]
        # FP16 widens to FP32 without loss.
        narrow = asking.infer("iris", [tensor("features", rows.astype(np.float16), "FP16")])
        assert np.array_equal(narrow.as_numpy("label"), iris.model.predict(rows.astype(np.float16)))


def test_what_the_model_refuses_is_refused_naming_row_and_column(start: Start, several: Path) -> None:
    server = start("--config", several)
    hole = np.ones((3, 4), np.float32)
    hole[2, 1] = np.nan
    endless = np.full((1, 4), np.inf, np.float32)
    cases = [
        (tensor("features", hole, "FP32"), "row 2, column 1 ('sepal width')"),
        (tensor("features", endless, "FP32"), "row 0, column 0"),
        (tensor("features", np.ones((1, 3), np.float32), "FP32"), "[1, 3]"),
        (tensor("features", np.ones(4, np.float32), "FP32"), "[4]"),
        (tensor("features", np.ones((1, 4)), "FP64"), "is FP64, the model takes FP32"),
        (tensor("features", np.ones((1, 4), np.int8), "INT8"), "is INT8, the model takes FP32"),
        (tensor("petals", np.ones((1, 4), np.float32), "FP32"), "unknown input 'petals'"),
    ]
    with client(server.port) as asking:
        for wrong, told in cases:
            with pytest.raises(InferenceServerException) as refusal:
                asking.infer("iris", [wrong])
            assert told in refusal.value.message()
            assert refusal.value.status() == "400"
        none = asking.infer("iris", [tensor("features", np.ones((0, 4), np.float32), "FP32")])
        assert [none.as_numpy(name).shape for name in ("label", "probabilities")][:1] == [(0,)]
        good = tensor("features", np.ones((1, 4), np.float32), "FP32")
        with pytest.raises(InferenceServerException, match="unknown output 'petals'; there are 'label', 'prob"):
            asking.infer("iris", [good], outputs=[triton.InferRequestedOutput("petals")])
        with pytest.raises(InferenceServerException, match="unknown output 'probabilities'; there are 'label'"):
            asking.infer(
                "iris",
                [good],
                outputs=[triton.InferRequestedOutput("probabilities")],
                parameters={"method": "predict"},
            )
        with pytest.raises(InferenceServerException, match="unknown method 'guess'"):
            asking.infer("iris", [good], parameters={"method": "guess"})
        with pytest.raises(InferenceServerException, match="there is no model 'rose'"):
            asking.infer("rose", [good])


def test_errors_below_v2_are_by_its_schema(start: Start, several: Path) -> None:
    server = start("--config", several)
    row = {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    bomb = gzip.compress(b" " * 200_000 + json.dumps({"inputs": [row]}).encode())
    cases = [
        ("GET", "/v2/nothing", None, {}, 404),
        ("GET", "/v2/models/", None, {}, 404),
        ("GET", "/v2/models/rose", None, {}, 404),
        ("GET", "/v2/models/iris/stats", None, {}, 404),
        ("GET", "/v2/models/iris/settings", None, {}, 404),
        ("GET", "/v2/models/iris/", None, {}, 404),
        ("GET", "/v2/models/iris/versions", None, {}, 404),
        ("GET", "/v2/models/iris/versions/9", None, {}, 404),
        ("GET", "/v2/models/iris/versions/one/ready", None, {}, 404),
        ("POST", "/v2/models/iris/ready/infer", {}, {}, 404),
        ("GET", "/v2/models/iris/infer", None, {}, 405),
        ("POST", "/v2/models/iris", {}, {}, 405),
        ("PUT", "/v2/models/iris/infer", {}, {}, 405),
        ("POST", "/v2/health/live", {}, {}, 405),
        ("POST", "/v2/models/iris/infer", b"{", {}, 400),
        ("POST", "/v2/models/iris/infer", {"inputs": [row]}, {"content-encoding": "br"}, 415),
        ("POST", "/v2/models/iris/infer", bomb, {"content-encoding": "gzip"}, 413),
        ("POST", "/v2/models/iris/infer", b" " * 200_000, {}, 413),
    ]
    for method, path, body, headers, status in cases:
        found, answered, told = ask(server.port, method, path, body, headers)
        assert (found, list(told)) == (status, ["error"]), (method, path)
        assert isinstance(told["error"], str)
        assert ("allow" in answered) == (status == 405)
    # The service is well after all that.
    assert ask(server.port, "POST", "/v2/models/iris/infer", {"inputs": [row]})[0] == 200


def test_requests_at_the_same_time_get_their_own_answers(start: Start, several: Path, iris: Any) -> None:
    server = start("--config", several)
    batches = [np.array(iris.rows[: 1 + number % 5], np.float32) + number / 100 for number in range(60)]
    with client(server.port, concurrency=16) as asking:
        waiting = [
            asking.async_infer("iris", [tensor("features", rows, "FP32")], request_id=str(number))
            for number, rows in enumerate(batches)
        ]
        for number, (rows, one) in enumerate(zip(batches, waiting, strict=True)):
            found = one.get_result()
            assert found.get_response()["id"] == str(number)
            assert np.allclose(found.as_numpy("probabilities"), iris.model.predict_proba(rows), atol=1e-5)


def test_sequences_of_maps_are_left_out_and_cannot_be_asked_for(start: Start, tmp_path: Path, iris: Any) -> None:
    from skl2onnx import to_onnx

    rows = np.array(iris.rows, np.float32)
    (tmp_path / "zip.onnx").write_bytes(to_onnx(iris.model, rows, target_opset=18).SerializeToString())
    server = start("--model", tmp_path / "zip.onnx", "--port", 0)
    with client(server.port) as asking:
        assert [entry["name"] for entry in asking.get_model_metadata("zip")["outputs"]] == ["output_label"]
        found = asking.infer("zip", [tensor("X", rows, "FP32")])
        assert [output["name"] for output in found.get_response()["outputs"]] == ["output_label"]
        assert np.array_equal(found.as_numpy("output_label"), iris.model.predict(rows))
        with pytest.raises(InferenceServerException, match="a sequence or a map, which V2 does not have"):
            asking.infer(
                "zip", [tensor("X", rows, "FP32")], outputs=[triton.InferRequestedOutput("output_probability")]
            )


def test_a_converted_model_is_called_as_its_folder_and_takes_scalars(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "scaled"
    folder.mkdir()
    ports = [models.tensor("a", TensorProto.FLOAT, []), models.tensor("b", TensorProto.FLOAT, [None])]
    out = models.tensor("c", TensorProto.FLOAT, [None])
    models.save(folder / "model.onnx", [helper.make_node("Mul", ["a", "b"], ["c"])], ports, [out])
    described = [
        {"name": name, "graph_name": name, "dtype": "float32", "shape": shape}
        for name, shape in (("a", []), ("b", [None]), ("c", [None]))
    ]
    models.manifest(folder, described[:2], [{**described[2], "role": "values"}])
    server = start("--model", folder / "model.onnx", "--port", 0)
    with client(server.port) as asking:
        metadata = asking.get_model_metadata("scaled")
        assert [entry["shape"] for entry in metadata["inputs"]] == [[], [-1]]
        for binary in (False, True):
            inputs = [
                tensor("a", np.array(2, np.float32), "FP32", binary=binary),
                tensor("b", np.array([1, 3], np.float32), "FP32", binary=binary),
            ]
            assert asking.infer("scaled", inputs).as_numpy("c").tolist() == [2.0, 6.0]
    status, _, body = ask(server.port, "GET", "/v2/models")
    assert (status, body) == (200, {"models": ["scaled"]})


def test_an_entry_script_is_a_model_that_is_asked_elsewhere(start: Start, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def init():\n    pass\n\ndef run(data):\n    return data\n")
    server = start("--entry-script", tmp_path / "score.py", "--port", 0)
    with client(server.port) as asking:
        assert asking.is_server_live()
        assert asking.is_server_ready()
        assert asking.is_model_ready("score")
        assert not asking.is_model_ready("other")
        assert asking.get_server_metadata()["extensions"] == []
        assert asking.get_model_metadata("score")["platform"] == "python"
    assert ask(server.port, "GET", "/v2/models")[2] == {"models": ["score"]}
    assert "send its input to /score" in ask(server.port, "POST", "/v2/models/score/infer")[2]["error"]
    for method, path in (
        ("GET", "/v2/models/other"),
        ("POST", "/v2/models/score/infer"),
        ("POST", "/v2/repository/index"),
    ):
        status, _, told = ask(server.port, method, path)
        assert (status, list(told)) == (404, ["error"])


def test_health_is_open_and_models_ask_for_a_key(start: Start, several: Path) -> None:
    from edge_server.security import keys

    document = json.loads(several.read_text())
    primary, secondary = "p" * 43, "s" * 43
    (several.parent / "keys.json").write_text(
        json.dumps(keys.document(keys.digest_of(primary), keys.digest_of(secondary)))
    )
    several.write_text(json.dumps({**document, "auth": {"mode": "key", "file": "keys.json"}}))
    server = start("--config", several)
    assert ask(server.port, "GET", "/v2/health/live")[0] == 200
    assert ask(server.port, "GET", "/v2/health/ready")[::2] == (200, {"live": True, "ready": True})
    for path in ("/v2", "/v2/models/iris", "/v2/nothing"):
        status, headers, told = ask(server.port, "GET", path)
        assert (status, list(told)) == (401, ["error"])
        assert headers["www-authenticate"].startswith("Bearer")
    with client(server.port) as asking:
        found = asking.get_model_metadata("iris", headers={"Authorization": f"Bearer {primary}"})
        assert found["name"] == "iris"
