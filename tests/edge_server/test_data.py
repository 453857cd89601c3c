"""The bodies of /score: rows, records, data frames and named inputs, and what is read out of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_server.errors import BadRequest, ScoringError
from edge_server.models.loading import load_model
from edge_server.models.running.onnx_model import OnnxModel
from tests.edge_server.support.models import answer, echo, manifest, refusal, request, save, tensor

NAMES = ["age", "income", "rate"]
ROWS = [[30, 1.5, 0.25], [40, 2.5, 0.5]]
SAME = [[30.0, 1.5, 0.25], [40.0, 2.5, 0.5]]


@pytest.fixture
def table(tmp_path: Path) -> OnnxModel:
    """One table of three named columns that comes back as it is."""
    folder = tmp_path / "table"
    folder.mkdir()
    shape = [None, 3]
    nodes = [helper.make_node("Identity", ["X"], ["same"])]
    save(
        folder / "model.onnx",
        nodes,
        [tensor("X", TensorProto.DOUBLE, shape)],
        [tensor("same", TensorProto.DOUBLE, shape)],
    )
    manifest(
        folder,
        [{"name": "X", "graph_name": "X", "dtype": "float64", "shape": shape, "columns": NAMES}],
        [{"name": "same", "graph_name": "same", "dtype": "float64", "shape": shape, "role": "values"}],
        row_wise=True,
        parity={"rows": 2},
    )
    return load_model(folder / "model.onnx", 1)


@pytest.fixture
def mixed(tmp_path: Path) -> OnnxModel:
    """An input a column: a text that may be missing, a number, a whole number, and a column that is not used."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    kinds = {"color": TensorProto.STRING, "size": TensorProto.FLOAT, "count": TensorProto.INT64}
    dtypes = {"color": "string", "size": "float32", "count": "int64", "note": "string"}
    save(
        folder / "model.onnx",
        [helper.make_node("Identity", [name], [f"{name}_"]) for name in kinds],
        [tensor(name, kind, [None, 1]) for name, kind in kinds.items()],
        [tensor(f"{name}_", kind, [None, 1]) for name, kind in kinds.items()],
    )
    inputs: list[dict[str, Any]] = [
        {"name": name, "graph_name": name, "dtype": dtype, "shape": [None, 1]} for name, dtype in dtypes.items()
    ]
    inputs[0] |= {"missing": "none", "categories": ["red", "blue"]}
    inputs[3]["unused"] = True
    outputs = [{"name": name, "graph_name": f"{name}_", "dtype": dtypes[name], "shape": [None, 1]} for name in kinds]
    manifest(folder, inputs, outputs)
    return load_model(folder / "model.onnx", 1)


RECORDS: list[dict[str, Any]] = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
SHUFFLED = [dict(reversed(record.items())) for record in RECORDS]
FRAME = {"columns": ["rate", "age", "income"], "index": [7, 8], "data": [[row[2], row[0], row[1]] for row in ROWS]}


@pytest.mark.parametrize(
    "body",
    [
        {"data": ROWS},
        {"data": RECORDS},
        {"data": SHUFFLED},
        {"data": {name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}},
        {"data": FRAME},
        {"data": {"columns": NAMES, "data": ROWS}},
        {"dataframe_split": FRAME},
        {"dataframe_records": SHUFFLED},
        {"instances": ROWS},
        {"instances": RECORDS},
        {"input_data": FRAME},
        {"input_data": ROWS},
        {"inputs": {"X": ROWS}},
        {"inputs": ROWS},
        {"inputs": SHUFFLED},
        {"data": ROWS, "method": "all"},
    ],
)
def test_rows_come_in_many_forms_and_columns_in_any_order(table: OnnxModel, body: Any) -> None:
    assert answer(table, body) == SAME


def test_a_single_record_is_one_row(table: OnnxModel) -> None:
    assert answer(table, {"data": RECORDS[0]}) == SAME[:1]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"data": [RECORDS[0], {"age": 1, "rate": 2}]}, "row 1 of 'data' lacks the column 'income'"),
        ({"data": [RECORDS[0] | {"town": 1}]}, "unknown column 'town' in row 0 of 'data'"),
        ({"data": [RECORDS[0], {"age": 1, "rate": 2, "town": 3}]}, "unknown column 'town' in row 1"),
        ({"data": {"age": [1], "rate": [2]}}, "'data' lacks the column 'income'"),
        ({"data": {}}, "'data' lacks the column 'age'"),
        ({"data": [{}]}, "row 0 of 'data' lacks the column 'age'"),
        ({"data": {"age": [1], "rate": [2, 3], "income": [1]}}, "'age' has 1, 'rate' has 2"),
        ({"data": {"age": [1], "rate": 2, "income": [1]}}, "the column 'rate' is a number, and others are lists"),
        ({"data": {"age": {"0": 1}, "rate": {"0": 1}, "income": {"0": 1}}}, "column 0 ('age') is an object"),
        ({"data": {"__proto__": 1}}, "unknown column '__proto__'"),
        ({"data": {"": [1]}}, "unknown column ''"),
        ({"data": [RECORDS[0], [1, 2, 3]]}, "row 1 of 'data' is a list, and row 0 is an object"),
        ({"data": [ROWS[0], RECORDS[0]]}, "row 1 is an object"),
        ({"data": {"columns": [*NAMES, "age"], "data": [[1, 2, 3, 4]]}}, "'data' has the column 'age' more than once"),
        ({"data": {"columns": ["age", "rate"], "data": [[1, 2]]}}, "'data' lacks the column 'income'"),
        ({"data": {"columns": [*NAMES, "x"], "data": [[1, 2, 3, 4]]}}, "unknown column 'x'"),
        ({"data": {"columns": NAMES, "data": [[1, 2, 3], [1, 2]]}}, "row 1 of 'data' has 2 values for 3 columns"),
        ({"data": {"columns": NAMES, "data": [[1, 2, 3], 4]}}, "row 1 of 'data' is a number"),
        ({"data": {"columns": NAMES, "data": 1}}, "must be a list of rows"),
        ({"data": {"columns": "age", "data": [[1]]}}, "'columns' of 'data' must be a list of names"),
        ({"data": {"columns": [[1]], "data": [[1]]}}, "must be a list of names"),
        ({"data": {"columns": NAMES, "data": ROWS, "dtypes": []}}, "unknown field 'dtypes'"),
        ({"data": [{"age": 1, "income": "2", "rate": 3}]}, "row 0, column 1 ('income') is a string"),
        ({"data": [1, 2, 3]}, "row 0 is a number, a row must be a list of values, even a single row"),
        ({"dataframe_split": ROWS}, "'dataframe_split' must be an object"),
        ({"dataframe_records": ROWS}, "'dataframe_records' must be a list of objects"),
        ({"data": ROWS, "instances": ROWS}, "either 'data' or 'inputs'"),
        ({"data": ROWS, "Inputs": {}}, "unknown field 'Inputs'"),
        ({"method": "all"}, "either 'data' or 'inputs'"),
        ({"data": ROWS, "method": 1}, "'method' must be a string"),
        ({"data": ROWS, "method": "predict"}, "the model has 'all'"),
        ({"data": ROWS, "Data": 1}, "as MLflow's clients send"),
        ({"inputs": 5}, "'inputs' must be an object"),
        (ROWS, "must be a JSON object"),
        ({}, "either"),
        (b"", "the body is empty; send"),
        (b'{"data": [[1, 2, NaN]]}', "NaN is not JSON; send null"),
        (b'{"data": [[1, 2, -Infinity]]}', "-Infinity is not JSON; send null"),
        (b'{"data": [["NaN", 2, 1]', "not JSON: "),
        (b'{"data": [[1, 2, 1e400]]}', "not JSON"),
        (b'\xef\xbb\xbf{"data": [[1, 2, 3]]}', "not JSON"),
        ('{"data": [[1, 2, 3]]}'.encode("utf-16"), "not JSON"),
        (b'{"data": "\\ud800"}', "not JSON"),
        (b'{"data": "\xff"}', "not JSON"),
        (b"[" * 10_000_000, "not JSON"),
        (b'{"data":' + b"[" * 900 + b"]" * 900 + b"}", "row 0"),
        (b'{"data":' + b'{"a":' * 900 + b"1" + b"}" * 901, "unknown column 'a'"),
    ],
)
def test_what_cannot_be_read_gets_400_naming_the_place(table: OnnxModel, body: Any, told: str) -> None:
    error = refusal(table, body)
    assert error.status == 400
    assert told in error.message
    assert len(error.message) < 1000


def test_the_last_of_two_equal_fields_counts(table: OnnxModel) -> None:
    assert answer(table, b'{"data": [[1, 2]], "data": [[1, 2, 3]]}') == [[1.0, 2.0, 3.0]]


def test_a_table_without_names_takes_a_frame_whose_columns_are_numbered(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.FLOAT, ["n", 2])
    assert answer(model, {"data": {"columns": [1, 0], "data": [[1, 2]]}}) == [[2.0, 1.0]]
    assert answer(model, {"data": [{"1": 2, "0": 1}]}) == [[1.0, 2.0]]
    assert "unknown column 'a'" in refusal(model, {"data": {"columns": ["a", "b"], "data": [[1, 2]]}}).message


def test_a_tensor_has_no_columns_and_may_be_given_by_name(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.FLOAT, ["n", 1, 2])
    assert answer(model, {"input_data": {"x": [[[1, 2]]]}}) == [[[1.0, 2.0]]]
    assert "names columns, and the model has none" in refusal(model, {"data": [{"a": 1}]}).message


MIXED: list[dict[str, Any]] = [{"color": "red", "size": 1.5, "count": 2}, {"color": None, "size": None, "count": 3}]
ANSWER = {"color": [["red"], ["none"]], "size": [[1.5], [None]], "count": [[2], [3]]}


@pytest.mark.parametrize(
    "body",
    [
        {"data": MIXED},
        {"data": [record | {"note": 5} for record in MIXED]},
        {"data": {"color": ["red", None], "size": [1.5, None], "count": [2, 3.0]}},
        {"data": {"columns": ["count", "size", "color"], "data": [[2, 1.5, "red"], [3, None, None]]}},
        {"data": [["red", 1.5, 2, "any"], [None, None, 3, 7]]},
        {"inputs": {"color": ["red", None], "size": [[1.5], [None]], "count": [2, 3]}},
    ],
)
def test_columns_of_several_types_with_missing_values(mixed: OnnxModel, body: Any) -> None:
    assert answer(mixed, body) == ANSWER


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"color": 1}, "'color': row 1 is a number"),
        ({"size": "2"}, "'size': row 1 is a string"),
        ({"size": 1e39}, "'size': row 1 is 1e+39, which float32 cannot hold"),
        ({"count": None}, "'count': row 1 is null"),
        ({"count": 2.5}, "'count': row 1 is 2.5, the model takes whole numbers"),
        ({"count": 2**63}, "'count': row 1 is 9223372036854775808"),
        ({"count": [1]}, "'count': row 1 is a list"),
        ({"count": {}}, "'count': row 1 is an object"),
    ],
)
def test_a_wrong_value_among_columns_is_named(mixed: OnnxModel, record: Any, told: str) -> None:
    assert told in refusal(mixed, {"data": [MIXED[0], MIXED[0] | record]}).message


def test_a_row_of_several_inputs_is_a_list_even_a_single_one(mixed: OnnxModel) -> None:
    assert "even a single row" in refusal(mixed, {"data": ["red", 1.5, 2, 3]}).message


def test_inputs_of_one_axis_are_columns_of_records(tmp_path: Path) -> None:
    path = save(
        tmp_path / "sum.onnx",
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        [tensor("a", TensorProto.FLOAT, [None]), tensor("b", TensorProto.FLOAT, [None])],
        [tensor("sum", TensorProto.FLOAT, [None])],
    )
    model = load_model(path, 1)
    assert answer(model, model.example()) == model.example_answer == [1.0]
    bodies: list[Any] = [
        {"data": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]},
        {"data": [[1, 2], [3, 4]]},
        {"inputs": {"a": [1, 3], "b": [2, 4]}},
    ]
    for body in bodies:
        assert answer(model, body) == [3.0, 7.0]
    assert "input 'b': row 1 is a string" in refusal(model, {"data": [[1, 2], [3, "4"]]}).message


def test_whole_numbers_stay_exact_beyond_2_to_the_53(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.INT64, ["n", 2])
    large = 2**53 + 1
    assert answer(model, {"data": [[large, 1.0], [2**63 - 1, -(2**63)]]}) == [[large, 1], [2**63 - 1, -(2**63)]]
    model = echo(tmp_path, TensorProto.UINT64, ["n"])
    assert answer(model, {"data": [2**64 - 1, 1]}) == [2**64 - 1, 1]
    assert "row 0" in refusal(model, {"data": [-1]}).message
    assert "row 1" in refusal(model, {"data": [1, 2**64]}).message


def test_half_precision_and_truth_values(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.FLOAT16, ["n"])
    assert answer(model, {"data": [1.5, 65504, None]}) == [1.5, 65504.0, None]
    assert "is 70000.0, which float16 cannot hold" in refusal(model, {"data": [1, 70000]}).message
    model = echo(tmp_path, TensorProto.BOOL, ["n"])
    assert answer(model, {"data": [True, False]}) == [True, False]
    assert "row 1 is a number, the model takes true or false" in refusal(model, {"data": [True, 1]}).message


def test_an_input_of_any_rank_takes_a_scalar(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.FLOAT, None)
    assert answer(model, {"data": 5}) == 5.0
    assert answer(model, {"data": [[[1], [2]]]}) == [[[1.0], [2.0]]]
    assert "32 levels" in refusal(model, b'{"data":' + b"[" * 40 + b"1" + b"]" * 40 + b"}").message
    wrong: list[Any] = [[[1, 2], [3]], [[1], 2], {"a": 1}, "1"]
    for data in wrong:
        assert refusal(model, {"data": data}).status == 400


def test_text_is_never_taken_apart(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.STRING, ["n", 2, 2])
    assert "[0][0] is a string" in refusal(model, {"data": [["ab", "cd"]]}).message
    assert answer(model, {"data": [[["a\x00b", ""], ["\ud83d\ude00", "d"]]]}) == [[["a\x00b", ""], ["😀", "d"]]]


def test_large_tables_are_read_whole(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.FLOAT, ["n", 7])
    rows = np.random.default_rng(0).normal(size=(20_000, 7))
    call = model.read(request({"data": rows.tolist()}))
    np.testing.assert_array_equal(call.arrays["x"], rows.astype(np.float32))


def test_lengths_that_the_graph_calls_by_one_name_must_agree(tmp_path: Path) -> None:
    path = save(
        tmp_path / "sum.onnx",
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        [tensor("a", TensorProto.FLOAT, ["n", 2]), tensor("b", TensorProto.FLOAT, ["n", "m"])],
        [tensor("sum", TensorProto.FLOAT, ["n", 2])],
    )
    model = load_model(path, 1)
    assert answer(model, {"inputs": {"a": [[1, 2]], "b": [[3]]}}) == [[4.0, 5.0]]
    error = refusal(model, {"inputs": {"a": [[1, 2], [1, 2]], "b": [[3]]}})
    assert "the length 'n' must be the same wherever the model has it" in error.message
    assert "2 in axis 0 of 'a', 1 in axis 0 of 'b'" in error.message
    # What no name forbids, the graph itself does; nothing is told of where the runtime was built.
    error = refusal(model, {"inputs": {"a": [[1, 2]], "b": [[3, 4, 5]]}})
    assert error.status == 400
    assert "2 by 3" in error.message
    assert "/" not in error.message


def test_an_index_beyond_the_table_is_the_clients_fault(tmp_path: Path) -> None:
    path = save(
        tmp_path / "gather.onnx",
        [helper.make_node("Gather", ["words", "x"], ["y"])],
        [tensor("x", TensorProto.INT64, ["n"])],
        [tensor("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("words", TensorProto.FLOAT, [2], [5.0, 6.0])],
    )
    model = load_model(path, 1)
    assert answer(model, {"data": [1, 0]}) == [6.0, 5.0]
    assert "idx=2 must be within" in refusal(model, {"data": [2]}).message
    options = onnxruntime.RunOptions()
    options.terminate = True
    with pytest.raises(Exception, match="terminate") as caught:
        model.run({"x": np.array([0])}, ["y"], options)
    assert not isinstance(caught.value, BadRequest)


def test_inputs_with_a_value_of_their_own_may_be_left_out(tmp_path: Path) -> None:
    path = save(
        tmp_path / "sum.onnx",
        [helper.make_node("Add", ["x", "more"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["n"]), tensor("more", TensorProto.FLOAT, [1])],
        [tensor("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("more", TensorProto.FLOAT, [1], [5.0])],
    )
    model = load_model(path, 1)
    assert answer(model, {"inputs": {"x": [1]}}) == [6.0]
    assert answer(model, {"inputs": {"x": [1], "more": [0]}}) == [1.0]
    assert "the input 'x' is missing" in refusal(model, {"inputs": {"more": [0]}}).message


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.COMPLEX64])
def test_types_that_nobody_can_write_are_refused_by_name_at_the_start(tmp_path: Path, kind: int) -> None:
    if kind == TensorProto.BFLOAT16:
        with pytest.raises(ScoringError, match=r"'x' is tensor\(bfloat16\)"):
            echo(tmp_path, kind, ["n"])
        path = save(
            tmp_path / "cast.onnx",
            [helper.make_node("Cast", ["x"], ["y"], to=kind)],
            [tensor("x", TensorProto.FLOAT, ["n"])],
            [tensor("y", kind, ["n"])],
        )
        with pytest.raises(ScoringError, match=r"'y' is tensor\(bfloat16\)"):
            load_model(path, 1)
    else:
        with pytest.raises(ScoringError, match="complex64"):
            echo(tmp_path, kind, ["n"])


def test_binary_arrays_are_held_to_what_json_is_held_to(mixed: OnnxModel, table: OnnxModel) -> None:
    right = {
        "color": np.array([["red"], [None]], object),
        "size": np.array([[1.5], [np.nan]], np.float32),
        "count": np.array([[2], [3]]),
    }
    checked = mixed.checked(right)
    assert checked["color"].tolist() == [["red"], ["none"]]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"size": np.array([[1.5], [2]])}, "has type float64, the model takes float32"),
        ({"size": np.array([1.5, 2], np.float32)}, "has shape [2], the model takes [any, 1]"),
        ({"size": np.ones((3, 1), np.float32)}, "'size' has 3"),
        ({"size": np.ones((0, 1), np.float32)}, "'size' has 0"),
        ({"color": np.array([["red"], [5]], object)}, "'color': row 1 is a number"),
        ({"town": np.ones(1)}, "unknown input 'town'"),
    ]
    for changed, told in wrong:
        with pytest.raises(BadRequest) as caught:
            mixed.checked({**right, **changed})
        assert told in caught.value.message
    assert np.isinf(table.checked({"X": np.array([[np.inf, 1, 2]])})["X"]).any()


def test_binary_arrays_have_no_numbers_that_the_original_refuses(
    tmp_path: Path, converted: Path, rewrite: Callable[..., Path]
) -> None:
    model = load_model(converted / "model.onnx", 1)
    for value, told in (
        (np.nan, "column 2 ('petal length') is NaN"),
        (np.inf, "column 2 ('petal length') is infinite"),
    ):
        with pytest.raises(BadRequest) as caught:
            model.checked({"features": np.array([[1, 1, 1, 1], [1, 1, value, 1]], np.float32)})
        assert f"row 1, {told}" in caught.value.message


def test_labels_are_the_originals_classes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["label"])]
    cases: list[tuple[int, str, list[Any], list[Any], list[Any]]] = [
        (TensorProto.INT64, "int64", [False, True], [0, 1], [False, True]),
        (TensorProto.INT64, "int64", ["no", "yes"], [1, 0, -1], ["yes", "no", -1]),
        (TensorProto.INT64, "int64", [3, 5], [3, 5], [3, 5]),
        (TensorProto.STRING, "string", ["1", "2"], ["2"], ["2"]),
        (TensorProto.STRING, "string", [1, 2.5], ["2.5", "1"], [2.5, 1]),
        (TensorProto.STRING, "string", [True, False], ["False"], [False]),
    ]
    for kind, dtype, classes, given, told in cases:
        shape = [None]
        save(tmp_path / "model.onnx", nodes, [tensor("x", kind, shape)], [tensor("label", kind, shape)])
        manifest(
            tmp_path,
            [{"name": "x", "graph_name": "x", "dtype": dtype, "shape": shape}],
            [
                {
                    "name": "label",
                    "graph_name": "label",
                    "dtype": dtype,
                    "shape": shape,
                    "role": "label",
                    "classes": classes,
                }
            ],
        )
        found = answer(load_model(tmp_path / "model.onnx", 1), {"data": given})
        assert found == told
        assert list(map(type, found)) == list(map(type, told))


def test_rows_of_a_model_that_was_never_compared_are_not_known_to_be_independent(table: OnnxModel) -> None:
    path = table.path.with_name("model.manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "parity": None}))
    again = load_model(table.path, 1)
    assert again.manifest is not None
    assert not again.manifest.row_wise


def test_a_call_tells_how_many_rows_it_has_where_it_can_be_joined(table: OnnxModel, tmp_path: Path) -> None:
    assert table.manifest is not None
    assert table.manifest.row_wise
    call = table.read(request({"data": ROWS}))
    assert (call.rows, call.outputs) == (2, ("same",))
    both = {"X": np.concatenate([call.arrays["X"], call.arrays["X"]])}
    values = table.run(both, call.outputs)
    assert json.loads(call.write([value[2:4] for value in values]).body) == SAME
    assert echo(tmp_path, TensorProto.FLOAT, [1, 2]).read(request({"data": [[1, 2]]})).rows is None
    assert echo(tmp_path, TensorProto.FLOAT, None).read(request({"data": [[1, 2]]})).rows is None


def test_examples_work_when_posted(table: OnnxModel, mixed: OnnxModel, converted: Path, tmp_path: Path) -> None:
    forest = load_model(converted / "model.onnx", 1)
    golden = json.loads((converted / "golden.json").read_text())
    assert forest.example() == {"data": golden["inputs"]["features"][:1]}
    np.testing.assert_allclose(forest.example_answer, golden["outputs"]["probabilities"][:1], atol=1e-5)
    assert table.example() == {"data": [[0.5, 0.5, 0.5]]}
    assert mixed.example() == {"data": [{"color": "red", "size": 0.5, "count": 0}]}
    image = echo(tmp_path, TensorProto.UINT8, [1, 2, 2])
    for model in (forest, table, mixed, image):
        assert answer(model, model.example()) == model.example_answer


def test_many_threads_read_at_once(table: OnnxModel) -> None:
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for count in range(1, 100):
            rows = [[number, count, place] for place in range(count)]
            if answer(table, {"data": rows}) != np.array(rows, float).tolist():
                wrong.append((number, count))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
