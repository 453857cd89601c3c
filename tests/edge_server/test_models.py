"""What requests mean to a model, with a manifest and without, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

ROW = [5.1, 3.5, 1.4, 0.2]


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def _tensor(name: str, kind: int, shape: list[Any] | None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def test_the_default_method_answers_the_original_probabilities(
    start: Callable[..., Any], converted: Path, iris: Any
) -> None:
    server = start("--model", converted / "model.onnx", "--port", "0")
    for body in ({"data": iris.rows}, {"inputs": {"features": iris.rows}}):
        status, answer = server.score(body)
        assert status == 200
        np.testing.assert_allclose(answer, iris.model.predict_proba(iris.rows), atol=1e-5)


def test_a_method_chooses_the_outputs(start: Callable[..., Any], converted: Path, iris: Any) -> None:
    server = start("--model", converted / "model.onnx", "--port", "0")
    labels = iris.model.predict(iris.rows).tolist()
    assert server.score({"data": iris.rows, "method": "predict"}) == (200, labels)
    status, both = server.score({"data": iris.rows, "method": "both"})
    assert (status, list(both), both["label"]) == (200, ["label", "probabilities"], labels)
    status, answer = server.score({"data": iris.rows, "method": "transform"})
    assert status == 400
    assert "'predict', 'predict_proba', 'both'" in answer["message"]


@pytest.fixture
def forest(start: Callable[..., Any], converted: Path) -> Any:
    return start("--model", converted / "model.onnx", "--port", "0")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([ROW, [1, 2, 3]], ["row 1", "3 values", "takes 4"]),
        ([[1, 2, 3], [1, 2, 3]], ["row 0", "3 values", "takes 4"]),
        ([ROW, [1, "2", 3, 4]], ["row 1", "column 1", "'sepal width'", "a string"]),
        ([ROW, [1, 2, 3, None]], ["row 1", "column 3", "'petal width'", "null"]),
        ([[1, 2, [3], 4]], ["row 0", "column 2", "a list"]),
        ([[1, 2, {}, 4]], ["row 0", "column 2", "an object"]),
        ([ROW, ROW, [1, -1e39, 3, 4]], ["row 2", "column 1", "-1e+39", "float32"]),
        ([ROW, 7], ["row 1", "a number"]),
        ([[ROW]], ["row 0", "1 value,"]),
        (ROW, ["row 0", "a number"]),
        ([[]], ["row 0", "0 values"]),
        (7, ["'features'", "a number"]),
        (None, ["'features'", "null"]),
        ({"sepal length": [1]}, ["lacks the column 'sepal width'"]),
    ],
)
def test_what_the_model_cannot_read_gets_400_naming_the_place(forest: Any, data: Any, told: list[str]) -> None:
    status, answer = forest.score({"data": data})
    assert status == 400
    for part in told:
        assert part in answer["message"]


def test_no_rows_get_an_answer_without_rows(forest: Any) -> None:
    for body in ({"data": []}, {"instances": []}, {"inputs": {"features": []}}):
        assert forest.score(body) == (200, [])


@pytest.mark.parametrize(
    ("inputs", "told"), [({}, "'features' is missing"), ({"features": [ROW], "x": [1]}, "unknown input 'x'")]
)
def test_inputs_must_be_those_of_the_model(forest: Any, inputs: Any, told: str) -> None:
    status, answer = forest.score({"inputs": inputs})
    assert status == 400
    assert told in answer["message"]


def test_whole_numbers_and_truth_values_are_numbers(forest: Any) -> None:
    assert forest.score({"data": [[5, 3, 1, True]]}) == forest.score({"data": [[5.0, 3.0, 1.0, 1.0]]})


def test_without_a_manifest_a_missing_value_is_the_graphs_own_affair(start: Callable[..., Any], tmp_path: Path) -> None:
    path = _save(
        tmp_path / "nan.onnx",
        [helper.make_node("IsNaN", ["x"], ["missing"])],
        [_tensor("x", TensorProto.FLOAT, ["n", 2])],
        [_tensor("missing", TensorProto.BOOL, ["n", 2])],
    )
    server = start("--model", path, "--port", "0")
    assert server.score({"data": [[1, None], [2, 3]]}) == (200, [[False, True], [False, False]])
    status, answer = server.score({"data": [[1, 2]], "method": "predict"})
    assert (status, "no methods" in answer["message"]) == (400, True)


def test_a_graph_of_several_inputs_and_outputs_goes_by_name(start: Callable[..., Any], tmp_path: Path) -> None:
    path = _save(
        tmp_path / "pair.onnx",
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
            helper.make_node("Identity", ["words"], ["echo"]),
        ],
        [
            _tensor("a", TensorProto.INT32, ["n"]),
            _tensor("b", TensorProto.INT32, ["n"]),
            _tensor("words", TensorProto.STRING, None),
        ],
        [
            _tensor("sum", TensorProto.INT32, ["n"]),
            _tensor("difference", TensorProto.INT32, ["n"]),
            _tensor("echo", TensorProto.STRING, None),
        ],
    )
    server = start("--model", path, "--port", "0")
    good = {"a": [1, 2.0], "b": [3, 5], "words": [["x"], ["й"]]}
    expected = {"sum": [4, 7], "difference": [-2, -3], "echo": [["x"], ["й"]]}
    assert server.score({"inputs": good}) == (200, expected)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"a": [1.5, 2]}, "row 0"),
        ({"a": [1, 2**40]}, "row 1"),
        ({"a": [1, None]}, "null"),
        ({"words": [["x"], [3]]}, "[1][0]"),
        ({"words": [["x"], ["y", "z"]]}, "row 1"),
    ]
    for changed, told in wrong:
        status, answer = server.score({"inputs": {**good, **changed}})
        assert status == 400
        assert told in answer["message"]
    status, answer = server.score({"data": [[1, 2, "x"]]})
    assert status == 400
    assert "'inputs'" in answer["message"]


def test_a_fixed_batch_is_kept_to(start: Callable[..., Any], tmp_path: Path) -> None:
    path = _save(
        tmp_path / "fixed.onnx",
        [helper.make_node("Identity", ["image"], ["same"])],
        [_tensor("image", TensorProto.UINT8, [1, 2, 2])],
        [_tensor("same", TensorProto.UINT8, [1, 2, 2])],
    )
    server = start("--model", path, "--port", "0")
    assert server.score({"data": [[[1, 2], [3, 4]]]}) == (200, [[[1, 2], [3, 4]]])
    for data, told in [
        ([[[1, 2], [3, 4]]] * 2, "2 rows"),
        ([[[1, 2], [3, 256]]], "[0][1][1] is 256"),
        ([[[1, 2], [3]]], "[0][1] has 1 value"),
    ]:
        status, answer = server.score({"data": data})
        assert status == 400
        assert told in answer["message"]


def test_mixed_columns_of_strings_and_numbers(start: Callable[..., Any], tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = np.array([["red", 1.0], ["blue", 2.0], ["red", 3.0], ["green", 4.0]], dtype=object)
    encode = ColumnTransformer([("color", OneHotEncoder(), [0])], remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(table, ["no", "yes", "no", "yes"])
    inputs = [("color", StringTensorType([None, 1])), ("size", FloatTensorType([None, 1]))]
    graph = to_onnx(model, initial_types=inputs, options={"zipmap": False}, target_opset=18)
    (tmp_path / "mixed.onnx").write_bytes(graph.SerializeToString())
    server = start("--model", tmp_path / "mixed.onnx", "--port", "0")
    expected = model.predict_proba(table)
    plain = {"color": [row[0] for row in table], "size": [row[1] for row in table]}
    for body in ({"data": table.tolist()}, {"inputs": plain}):
        status, answer = server.score(body)
        assert (status, answer["label"]) == (200, ["no", "yes", "no", "yes"])
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    for data, told in [
        ([["red", "1"]], "'size': row 0 is a string"),
        ([["red", 1], [2, 2]], "'color': row 1 is a number"),
        ([["red", 1], ["red"]], "row 1 of 'data' has 1"),
    ]:
        status, answer = server.score({"data": data})
        assert status == 400
        assert told in answer["message"]


def test_probabilities_as_maps_become_objects(start: Callable[..., Any], tmp_path: Path, iris: Any) -> None:
    from skl2onnx import to_onnx

    graph = to_onnx(iris.model, np.zeros((1, 4), np.float32), target_opset=18)
    (tmp_path / "maps.onnx").write_bytes(graph.SerializeToString())
    server = start("--model", tmp_path / "maps.onnx", "--port", "0")
    status, answer = server.score({"data": [ROW]})
    assert status == 200
    assert answer["output_label"] == [0]
    assert list(answer["output_probability"][0]) == ["0", "1", "2"]


def test_inputs_of_a_manifest_must_have_as_many_rows(start: Callable[..., Any], tmp_path: Path) -> None:
    _save(
        tmp_path / "model.onnx",
        [helper.make_node("Concat", ["a", "b"], ["all"], axis=0)],
        [_tensor("a", TensorProto.FLOAT, ["n", 1]), _tensor("b", TensorProto.FLOAT, ["m", 1])],
        [_tensor("all", TensorProto.FLOAT, [None, 1])],
    )
    manifest: dict[str, Any] = {
        "schema": "edgepack.model/v1",
        "file": "model.onnx",
        "inputs": [{"name": n, "graph_name": n, "dtype": "float32", "shape": [None, 1]} for n in "ab"],
        "outputs": [{"name": "all", "graph_name": "all"}],
        "methods": {"default": "all", "all": ["all"]},
        "rejects": {"nan": False, "infinity": False},
        "golden": None,
    }
    (tmp_path / "model.manifest.json").write_text(json.dumps(manifest))
    server = start("--model", tmp_path / "model.onnx", "--port", "0")
    assert server.score({"data": [[1, 2], [3, 4]]}) == (200, [[1], [3], [2], [4]])
    status, answer = server.score({"inputs": {"a": [1, 2], "b": [3]}})
    assert status == 400
    assert "'a' has 2, 'b' has 1" in answer["message"]


def test_what_the_original_refuses_is_refused_and_a_missing_text_is_written_its_way(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    _save(
        tmp_path / "model.onnx",
        [
            helper.make_node("Identity", ["amount"], ["same"]),
            helper.make_node("Identity", ["kind"], ["said"]),
        ],
        [_tensor("amount", TensorProto.DOUBLE, [None, 1]), _tensor("kind", TensorProto.STRING, [None, 1])],
        [_tensor("same", TensorProto.DOUBLE, [None, 1]), _tensor("said", TensorProto.STRING, [None, 1])],
    )
    manifest: dict[str, Any] = {
        "schema": "edgepack.model/v1",
        "file": "model.onnx",
        "inputs": [
            {"name": "amount", "graph_name": "amount", "dtype": "float64", "shape": [None, 1]},
            {"name": "kind", "graph_name": "kind", "dtype": "string", "shape": [None, 1], "missing": "none"},
        ],
        "outputs": [{"name": name, "graph_name": name} for name in ("same", "said")],
        "methods": {"default": "all", "all": ["same", "said"]},
        "rejects": {"nan": False, "infinity": True, "huge": True},
        "golden": None,
    }
    (tmp_path / "model.manifest.json").write_text(json.dumps(manifest))
    server = start("--model", tmp_path / "model.onnx", "--port", "0")
    answer = {"same": [[1e38], [None]], "said": [["none"], ["a"]]}
    assert server.score({"data": [[1e38, None], [None, "a"]]}) == (200, answer)
    status, answer = server.score({"data": [[1, "a"], [-1e39, "a"]]})
    assert status == 400
    assert "'amount': row 1 is -1e+39" in answer["message"]
    manifest["inputs"][1]["missing"] = None
    (tmp_path / "model.manifest.json").write_text(json.dumps(manifest))
    server = start("--model", tmp_path / "model.onnx", "--port", "0")
    status, answer = server.score({"data": [[1, None]]})
    assert status == 400
    assert "null, the model takes strings" in answer["message"]


def test_values_are_held_to_the_manifests_limits_and_unused_inputs_change_nothing(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    _save(
        tmp_path / "model.onnx",
        [
            helper.make_node("Identity", ["kind"], ["said"]),
            helper.make_node("Identity", ["id"], ["same"]),
            helper.make_node("Identity", ["sizes"], ["seen"]),
        ],
        [
            _tensor("kind", TensorProto.STRING, [None, 1]),
            _tensor("id", TensorProto.INT64, [None, 1]),
            _tensor("sizes", TensorProto.DOUBLE, [None, 2]),
        ],
        [
            _tensor("said", TensorProto.STRING, [None, 1]),
            _tensor("same", TensorProto.INT64, [None, 1]),
            _tensor("seen", TensorProto.DOUBLE, [None, 2]),
        ],
    )
    plain = {"shape": [None, 1]}
    manifest: dict[str, Any] = {
        "schema": "edgepack.model/v1",
        "file": "model.onnx",
        "inputs": [
            {
                "name": "kind",
                "graph_name": "kind",
                "dtype": "string",
                "categories": ["a", "b"],
                "closed": True,
                **plain,
            },
            {"name": "sizes", "graph_name": "sizes", "dtype": "float64", "shape": [None, 2], "complete": [1]},
            {"name": "note", "graph_name": "note", "dtype": "float64", "unused": True, **plain},
            {"name": "id", "graph_name": "id", "dtype": "int64", "minimum": 0, "maximum": 9, **plain},
        ],
        "outputs": [{"name": name, "graph_name": name} for name in ("said", "same")],
        "methods": {"default": "all", "all": ["said", "same"]},
        "rejects": {"nan": False, "infinity": True},
        "golden": None,
    }
    (tmp_path / "model.manifest.json").write_text(json.dumps(manifest))
    server = start("--model", tmp_path / "model.onnx", "--port", "0")
    right = {"said": [["a"], ["b"]], "same": [[0], [9]]}
    assert server.score({"data": [["a", 1, 1, "any text", 0], ["b", None, 1, None, 9]]}) == (200, right)
    sizes = [[None, 1], [1, 1]]
    assert server.score({"inputs": {"kind": [["a"], ["b"]], "id": [[0], [9]], "sizes": sizes}}) == (200, right)
    for row, told in (
        (["c", 1, 1, 0, 0], "'kind': row 1 is 'c', which is not one of the values that the model takes: 'a', 'b'"),
        (["a", 1, 1, 0, -1], "'id': row 1 is -1, the model takes whole numbers from 0 to 9"),
        (["a", 1, 1, 0, 10], "'id': row 1 is 10"),
        (["a", 1, None, 0, 0], "'sizes': row 1, column 1 is null, and the model takes no missing values there"),
    ):
        status, answer = server.score({"data": [["a", 1, 1, 0, 0], row]})
        assert status == 400
        assert told in answer["message"]
