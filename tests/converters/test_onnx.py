"""ONNX files are checked, made whole, stripped and described, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from converters import Conversion, Options, convert
from edgepack.errors import ConversionError, UsageError

WEIGHTS = np.arange(3 * 400, dtype=np.float32).reshape(3, 400) / 1000


def _model(op: str = "MatMul", kind: int = TensorProto.FLOAT) -> Any:
    node = helper.make_node(op, ["x", "w"], ["y"], doc_string="/home/somebody/train.py:12")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, ["batch", 3])],
        [helper.make_tensor_value_info("y", kind, ["batch", 400])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="me")


def _convert(path: Path, sample: Path | None = None) -> Conversion:
    return convert(path, framework="Onnx", output_dir=path.parent / "out", options=Options(sample=sample))


def test_model_is_described_and_still_answers_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(), path)
    conversion = _convert(path)
    manifest = json.loads(conversion.manifest.read_text())
    assert manifest["inputs"] == [
        {"name": "x", "graph_name": "x", "dtype": "float32", "shape": [None, 3], "columns": None}
    ]
    assert manifest["methods"] == {"default": "predict", "predict": ["y"]}
    assert manifest["minimum_runtime"] == "1.17"
    assert conversion.parity is not None
    assert conversion.parity.passed
    assert conversion.golden is not None
    golden = json.loads(conversion.golden.read_text())
    np.testing.assert_allclose(np.array(golden["inputs"]["x"]) @ WEIGHTS, golden["outputs"]["y"], rtol=1e-4, atol=1e-5)
    assert b"/home/somebody" in path.read_bytes()
    assert b"/home/somebody" not in conversion.model.read_bytes()


def test_weights_in_another_file_are_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size >= WEIGHTS.nbytes
    conversion = _convert(path)
    (tmp_path / "m.data").unlink()
    session = ort.InferenceSession(str(conversion.model), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.eye(3, dtype=np.float32)})
    np.testing.assert_array_equal(answer, WEIGHTS)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ConversionError, match=r"weights in another file.*put that file beside the model"):
        _convert(path)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    model = _model()
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"
    path = tmp_path / "in" / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="weights in another file"):
        _convert(path)


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"not onnx at all", "not an ONNX model|no ONNX graph"),
        (b"", "no ONNX graph"),
        (_model("NoSuchOperator").SerializeToString(), "not valid|cannot load.*NoSuchOperator"),
    ],
    ids=["garbage", "empty", "unknown operator"],
)
def test_broken_model_is_one_sentence(data: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ConversionError, match=sentence) as caught:
        _convert(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_sandbox")
def test_sample_that_does_not_fit_names_the_input(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(), path)
    (tmp_path / "s.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"'x' has shape \(1, 2\), the model takes \(any, 3\)"):
        _convert(path, sample=tmp_path / "s.csv")


@pytest.mark.usefixtures("without_sandbox")
def test_maps_of_probabilities_become_a_matrix(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(x, np.array(["c", "a", "b"])[y])
    onnx.save(to_onnx(model, x[:1].astype(np.float32)), tmp_path / "m.onnx")
    conversion = _convert(tmp_path / "m.onnx")
    manifest = json.loads(conversion.manifest.read_text())
    outputs = {entry["name"]: entry for entry in manifest["outputs"]}
    assert manifest["methods"] == {
        "default": "predict_proba",
        "predict": ["output_label"],
        "predict_proba": ["output_probability"],
    }
    assert outputs["output_label"]["role"] == "label"
    assert outputs["output_probability"]["classes"] == ["a", "b", "c"]
    assert outputs["output_probability"]["role"] == "probabilities"
    session = ort.InferenceSession(str(conversion.model), providers=["CPUExecutionProvider"])
    (answer,) = session.run(["output_probability"], {"X": x.astype(np.float32)})
    np.testing.assert_allclose(answer, model.predict_proba(x), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("without_sandbox")
def test_an_operator_set_newer_than_the_runtime_is_refused(tmp_path: Path) -> None:
    model = _model()
    model.opset_import[0].version = 999
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="it uses opset 999, this runtime takes up to 2") as caught:
        _convert(tmp_path / "m.onnx")
    assert caught.value.hint


@pytest.mark.usefixtures("without_sandbox")
def test_an_old_graph_that_the_runtime_refuses_is_versioned_up(tmp_path: Path) -> None:
    values = {"s": 2, "b": 1, "m": 0, "v": 1}
    values = {"s": 2, "b": 1, "m": 0, "v": 1}
    ones = [numpy_helper.from_array(np.full(3, value, np.float32), name) for name, value in values.items()]
    body = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", *"sbmv"], ["y"], is_test=1)],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 2]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in values),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 2])],
        ones,
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 6)], ir_version=3), path)
    with pytest.raises(Exception, match="BatchNormalization"):
        ort.InferenceSession(str(path))
    conversion = _convert(path)
    assert json.loads(conversion.manifest.read_text())["opset"][""] == 18
    assert any("versioned up from opset 6 to 18" in note for note in conversion.warnings)
    (answer,) = ort.InferenceSession(str(conversion.model)).run(None, {"x": np.ones((2, 3, 2), np.float32)})
    np.testing.assert_allclose(answer, 3, rtol=1e-4)


@pytest.mark.usefixtures("without_sandbox")
def test_inputs_of_every_kind_are_found_and_compared(tmp_path: Path) -> None:
    """A static batch, whole numbers within a range, and text: rows are made up for all."""
    table = numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(10, 2), "table")
    body = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("Identity", ["word"], ["said"])],
        "g",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, [4]),
            helper.make_tensor_value_info("word", TensorProto.STRING, [1]),
        ],
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, [4, 2]),
            helper.make_tensor_value_info("said", TensorProto.STRING, [1]),
        ],
        [table],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    conversion = _convert(path)
    assert conversion.parity is not None
    assert conversion.parity.passed
    assert any("batches of 4 only" in note for note in conversion.warnings)
