"""What an ONNX graph may leave out of its inputs and outputs, and what of them cannot be served."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.onnx.convert import convert
from converters.options import Options
from converters.package import manifest
from edge_server.models.loading import open_model
from edge_server.models.running.onnx_model import OnnxModel
from edgepack.errors import ConversionError

RAMP = np.arange(8, dtype=np.float32).reshape(4, 2)
NODE, PORT = helper.make_node, helper.make_tensor_value_info
FLOAT, BFLOAT16 = TensorProto.FLOAT, TensorProto.BFLOAT16


def _saved(
    folder: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any] = ()
) -> Path:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    path = folder / "m.onnx"
    opset = [helper.make_opsetid("", 21)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
    return path


def _served(path: Path, sample: Path | None = None) -> tuple[dict[str, Any], OnnxModel]:
    """The manifest of the converted model, and the model as a server opens it, which checks its golden vectors."""
    converted = convert(path, "sha256:" + "0" * 64, Options(sample=sample))
    out = path.parent / "out"
    out.mkdir()
    document, golden = manifest.finish(converted.manifest, converted.golden)
    (out / manifest.MODEL_FILE).write_bytes(converted.model)
    (out / manifest.MANIFEST_FILE).write_bytes(document)
    if golden is not None:
        (out / manifest.GOLDEN_FILE).write_bytes(golden)
    return json.loads(document), open_model(out / manifest.MODEL_FILE, 1).model


@pytest.mark.parametrize(
    ("values", "rank"), [(RAMP.T[0], 1), (RAMP[:, :1].T, 2), (RAMP.T[:, None], 3)], ids=["1", "2", "3"]
)
def test_an_input_without_a_shape_takes_any_rank(values: Any, rank: int, tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(RAMP, "w")]
    nodes = [NODE("MatMul", ["x", "w"], ["y"])]
    path = _saved(tmp_path, nodes, [PORT("x", FLOAT, None)], [PORT("y", FLOAT, None)], weights)
    document, model = _served(path)
    assert document["inputs"][0]["shape"] is None
    assert document["outputs"][0]["shape"] is None
    assert document["parity"]["passed"]
    assert document["golden"] is not None
    assert values.ndim == rank
    given = model.rows(values.tolist())
    np.testing.assert_allclose(model.run(given, ["y"])[0], values @ RAMP, rtol=1e-5)


def test_a_sample_says_how_many_axes_are_compared(tmp_path: Path) -> None:
    path = _saved(tmp_path, [NODE("Det", ["x"], ["y"])], [PORT("x", FLOAT, None)], [PORT("y", FLOAT, None)])
    np.savez(tmp_path / "s.npz", x=np.stack([np.eye(3), 2 * np.eye(3)]).astype(np.float32))
    document, model = _served(path, tmp_path / "s.npz")
    assert document["parity"]["passed"]
    assert model.run(model.rows([[[3.0, 0.0], [0.0, 2.0]]]), ["y"])[0].tolist() == [6.0]


def test_an_output_without_a_shape_or_type_is_as_the_runtime_finds_it(tmp_path: Path) -> None:
    outputs = [PORT("y", FLOAT, None), onnx.ValueInfoProto(name="z")]
    nodes = [NODE("Relu", ["x"], ["y"]), NODE("Neg", ["x"], ["z"])]
    document, model = _served(_saved(tmp_path, nodes, [PORT("x", FLOAT, ["n", 3])], outputs))
    assert [entry["shape"] for entry in document["outputs"]] == [[None, 3], [None, 3]]
    assert [entry["dtype"] for entry in document["outputs"]] == ["float32", "float32"]
    assert model.run(model.rows([[1.0, -1.0, 0.0]]), ["y"])[0].tolist() == [[1.0, 0.0, 0.0]]


def test_a_scalar_stays_one(tmp_path: Path) -> None:
    path = _saved(tmp_path, [NODE("Neg", ["x"], ["y"])], [PORT("x", FLOAT, [])], [PORT("y", FLOAT, [])])
    document, _ = _served(path)
    assert (document["inputs"][0]["shape"], document["outputs"][0]["shape"]) == ([], [])


@pytest.mark.parametrize("kind", [BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4])
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_type_that_numpy_lacks_is_refused_and_the_way_out_works(kind: int, side: str, tmp_path: Path) -> None:
    given, answered = (kind, FLOAT) if side == "input" else (FLOAT, kind)
    path = _saved(
        tmp_path, [NODE("Cast", ["x"], ["y"], to=answered)], [PORT("x", given, ["n", 3])], [PORT("y", answered, None)]
    )
    with pytest.raises(ConversionError, match=r'"[xy]" of the ONNX model is a .*numpy and JSON do not have'):
        convert(path, "", Options())


def test_a_cast_inside_the_model_serves_what_cannot_be_given(tmp_path: Path) -> None:
    nodes = [NODE("Cast", ["x"], ["b"], to=BFLOAT16), NODE("Cast", ["b"], ["y"], to=FLOAT)]
    _, model = _served(_saved(tmp_path, nodes, [PORT("x", FLOAT, ["n", 3])], [PORT("y", FLOAT, ["n", 3])]))
    assert model.run(model.rows([[1.0, 1.0001, -2.0]]), ["y"])[0].tolist() == [[1.0, 1.0, -2.0]]


@pytest.mark.parametrize("overridable", [False, True])
def test_a_model_that_takes_nothing_is_refused(overridable: bool, tmp_path: Path) -> None:
    inputs = [PORT("w", FLOAT, [4, 2])] if overridable else []
    weights = [numpy_helper.from_array(RAMP, "w")]
    path = _saved(tmp_path, [NODE("Neg", ["w"], ["y"])], inputs, [PORT("y", FLOAT, [4, 2])], weights)
    with pytest.raises(ConversionError, match="no inputs that must be given"):
        convert(path, "", Options())


def test_a_model_that_answers_nothing_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path, [NODE("Neg", ["x"], ["y"])], [PORT("x", FLOAT, ["n", 3])], [])
    with pytest.raises(ConversionError, match="no outputs"):
        convert(path, "", Options())


def test_a_sequence_is_told_as_what_it_is(tmp_path: Path) -> None:
    inputs = [helper.make_tensor_sequence_value_info("x", FLOAT, None)]
    weights = [numpy_helper.from_array(np.array(0), "i")]
    path = _saved(tmp_path, [NODE("SequenceAt", ["x", "i"], ["y"])], inputs, [PORT("y", FLOAT, None)], weights)
    with pytest.raises(ConversionError, match=r'"x" of the ONNX model is a seq\(tensor\(float\)\), not a plain tensor'):
        convert(path, "", Options())


@pytest.mark.parametrize(("version", "opset"), [(3, 9), (40, 18)], ids=["weights that are not inputs", "too new"])
def test_a_version_of_the_format_that_says_another_than_the_contents_is_mended(
    version: int, opset: int, tmp_path: Path
) -> None:
    weights = [numpy_helper.from_array(RAMP, "w")]
    path = _saved(
        tmp_path,
        [NODE("MatMul", ["x", "w"], ["y"])],
        [PORT("x", FLOAT, ["n", 4])],
        [PORT("y", FLOAT, ["n", 2])],
        weights,
    )
    model = onnx.load_model(path)
    model.ir_version = version
    model.opset_import[0].version = opset
    path.write_bytes(model.SerializeToString())
    converted = convert(path, "sha256:" + "0" * 64, Options())
    assert onnx.load_model_from_string(converted.model).ir_version == (8 if version == 40 else 4)
    told = [warning for warning in converted.report["warnings"] if "version 40 of the format" in warning]
    assert bool(told) is (version == 40)


def test_weights_of_bfloat16_that_the_runtime_cannot_use_are_told_as_such(tmp_path: Path) -> None:
    weights = [helper.make_tensor("w", BFLOAT16, [4, 2], RAMP.reshape(-1).tolist())]
    nodes = [
        NODE("Cast", ["x"], ["b"], to=BFLOAT16),
        NODE("Gemm", ["b", "w"], ["z"]),
        NODE("Cast", ["z"], ["y"], to=FLOAT),
    ]
    path = _saved(tmp_path, nodes, [PORT("x", FLOAT, ["n", 4])], [PORT("y", FLOAT, ["n", 2])], weights)
    with pytest.raises(ConversionError, match="let it compute in float32"):
        convert(path, "sha256:" + "0" * 64, Options())


def test_an_output_that_declares_another_number_of_axes_is_described_as_it_is(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(RAMP, "w")]
    wrong = [PORT("y", FLOAT, ["n", 2, "q"])]
    path = _saved(tmp_path, [NODE("MatMul", ["x", "w"], ["y"])], [PORT("x", FLOAT, ["n", 4])], wrong, weights)
    document, model = _served(path)
    assert document["outputs"][0]["shape"] == [None, None]
    (answer,) = model.run({"x": np.ones((3, 4), np.float32)}, ["y"])
    np.testing.assert_array_equal(answer, np.ones((3, 4)) @ RAMP)
