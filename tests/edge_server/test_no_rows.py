"""Requests without rows or with an empty axis, scalars, and what is told of a run that fails."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_server.config.values import Batching, Limits, ModelPlace
from edge_server.errors import BadRequest
from edge_server.http.messages import Response
from edge_server.models.files.ports import scalars
from edge_server.models.loading import open_model
from edge_server.models.running.batching import Batcher
from edge_server.models.running.onnx_model import OnnxModel
from edge_server.models.running.run_queue import RunQueue
from edge_server.telemetry.metrics import Metrics
from edge_server.v2 import calls
from edge_server.v2.inference import parse
from tests.edge_server.support.models import answer, manifest, refusal, request, save, tensor

FLOAT, TEXT = TensorProto.FLOAT, TensorProto.STRING


def opened(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], more: Any = None) -> OnnxModel:
    path.parent.mkdir(exist_ok=True)
    return open_model(save(path, nodes, inputs, outputs, more), 1).model


def same(folder: Path, kind: int, shape: list[Any]) -> OnnxModel:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return opened(folder / "same.onnx", nodes, [tensor("x", kind, shape)], [tensor("y", kind, shape)])


def asked(model: OnnxModel, inputs: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    body = json.dumps({"inputs": inputs, **more}).encode()
    made = calls.call(model, ModelPlace("m", 1, model.path.parent, model.path.name), parse(body, None))
    found: dict[str, Any] = json.loads(made.write(model.run(made.arrays, made.outputs)).body)["outputs"][0]
    return found


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"instances": []},
        {"inputs": []},
        {"inputs": {"x": []}},
        {"input_data": []},
        {"dataframe_records": []},
        {"dataframe_split": {"columns": ["0", "1"], "data": []}},
        {"data": {"0": [], "1": []}},
    ],
)
def test_every_form_of_no_rows_gets_no_rows(tmp_path: Path, body: Any) -> None:
    for kind in (FLOAT, TEXT, TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT16):
        assert answer(same(tmp_path / str(kind), kind, ["n", 2]), body) == []


def test_arrays_without_rows_get_no_rows(tmp_path: Path) -> None:
    model = same(tmp_path, FLOAT, ["n", 2])
    file = io.BytesIO()
    np.save(file, np.zeros((0, 2), np.float32))
    assert answer(model, file.getvalue(), "application/x-npy") == []
    assert answer(model, b"", "application/octet-stream", "shape=0,2") == []
    assert "add their shape to the query" in refusal(model, b"", "application/octet-stream").message
    assert "has shape [0, 3]" in refusal(model, b"", "application/octet-stream", "shape=0,3").message
    huge = request(b"", "application/octet-stream", "shape=0," + ",".join(["9" * 15] * 2))
    with pytest.raises(BadRequest, match="too large"):
        model.read(huge)


def test_v2_answers_no_rows_in_the_shape_and_type_of_the_outputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=TensorProto.INT32),
        helper.make_node("Concat", ["c", "c"], ["y"], axis=2),
    ]
    x, y = tensor("x", FLOAT, ["n", "t", 3]), tensor("y", TensorProto.INT32, ["n", "t", 6])
    model = opened(tmp_path / "twice.onnx", nodes, [x], [y])
    for shape, expected in (([0, 5, 3], [0, 5, 6]), ([0, 0, 3], [0, 0, 6]), ([2, 0, 3], [2, 0, 6])):
        found = asked(model, [{"name": "x", "datatype": "FP32", "shape": shape, "data": []}])
        assert (found["datatype"], found["shape"], found["data"]) == ("INT32", expected, [])
    assert answer(model, {"data": []}) == []
    assert answer(model, {"data": [[], []]}) == [[], []]
    assert "row 0 has 0" in refusal(model, {"data": [[], [[1, 2, 3]]]}).message
    # What a shape alone speaks of is not allocated.
    with pytest.raises(BadRequest, match="too large"):
        asked(model, [{"name": "x", "datatype": "FP32", "shape": [0, 10**9, 3], "data": []}])


def test_several_inputs_have_no_rows_together(tmp_path: Path) -> None:
    ports = [tensor("a", FLOAT, ["n", 1]), tensor("b", TEXT, ["n", 1])]
    nodes = [helper.make_node("Identity", ["a"], ["c"]), helper.make_node("Identity", ["b"], ["d"])]
    outputs = [tensor("c", FLOAT, ["n", 1]), tensor("d", TEXT, ["n", 1])]
    model = opened(tmp_path / "two.onnx", nodes, ports, outputs)
    for body in ({"data": []}, {"inputs": {"a": [], "b": []}}, {"data": {"a": [], "b": []}}):
        assert answer(model, body) == {"c": [], "d": []}
    assert refusal(model, {"inputs": {"a": [], "b": [["x"]]}}).status == 400


def test_a_model_that_is_not_by_row_answers_what_its_engine_does(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    model = opened(tmp_path / "sum.onnx", nodes, [tensor("x", FLOAT, ["n", 2])], [tensor("y", FLOAT, [])])
    assert not model.joinable
    assert answer(model, {"data": []}) == 0.0
    assert asked(model, [{"name": "x", "datatype": "FP32", "shape": [0, 2], "data": []}])["data"] == [0.0]


def test_an_engine_that_would_end_the_process_is_not_asked(tmp_path: Path) -> None:
    # ONNX Runtime 1.32 calls std::terminate in GRU with a batch or a sequence of length 0.
    weights = [
        helper.make_tensor("w", FLOAT, [1, 6, 3], [0.1] * 18),
        helper.make_tensor("r", FLOAT, [1, 6, 2], [0.1] * 12),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
    ]
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["turned", "w", "r"], ["", "last"], hidden_size=2),
        helper.make_node("Squeeze", ["last", "first"], ["y"]),
    ]
    ports = [tensor("x", FLOAT, ["n", "t", 3])], [tensor("y", FLOAT, ["n", 2])]
    model = opened(tmp_path / "gru.onnx", nodes, *ports, weights)
    assert model.joinable
    assert answer(model, {"data": []}) == []
    assert asked(model, [{"name": "x", "datatype": "FP32", "shape": [0, 4, 3], "data": []}])["shape"] == [0, 2]
    for data in ([[]], [[], []]):
        assert "has no values" in refusal(model, {"data": data}).message
    with pytest.raises(BadRequest, match="has no rows"):
        asked(model, [{"name": "x", "datatype": "FP32", "shape": [0, 0, 3], "data": []}])
    # Rows that are not known to be apart: their number is, from a run of one.
    sorted_ = [*nodes[:2], helper.make_node("Squeeze", ["last", "first"], ["z"]),
               helper.make_node("Softmax", ["z"], ["y"], axis=0)]  # fmt: skip
    batch = opened(tmp_path / "batch.onnx", sorted_, *ports, weights)
    assert (batch.joinable, answer(batch, {"data": []})) == (False, [])
    apart = opened(tmp_path / "apart.onnx", [*nodes[:2], helper.make_node("ReduceSum", ["last"], ["y"], keepdims=0)],
                   ports[0], [tensor("y", FLOAT, [])], weights[:2])  # fmt: skip
    assert "has no rows" in refusal(apart, {"data": []}).message


def test_an_original_that_refuses_no_rows_is_followed(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save(tmp_path / "model.onnx", nodes, [tensor("x", FLOAT, ["n", 2])], [tensor("y", FLOAT, ["n", 2])])
    ports = [{"name": name, "graph_name": name, "dtype": "float32", "shape": [None, 2]} for name in "xy"]
    for empty in (False, True):
        manifest(tmp_path, ports[:1], ports[1:], rejects={"nan": False, "empty": empty}, row_wise=True, parity={})
        model = open_model(path, 1).model
        if empty:
            assert "the original model takes one at least" in refusal(model, {"data": []}).message
        else:
            assert answer(model, {"data": []}) == []


def test_scalars_are_told_from_shapes_that_are_not_declared(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["c"])]
    ports = [tensor("a", FLOAT, []), tensor("b", FLOAT, None)], [tensor("c", FLOAT, None)]
    model = opened(tmp_path / "add.onnx", nodes, *ports)
    assert scalars(model.path) == {"a"}
    assert [spec.shape for spec in (*model.inputs, *model.outputs)] == [(), None, None]
    described = calls.describe(model, "add", [1])
    assert [port["shape"] for port in (*described["inputs"], *described["outputs"])] == [[], [-1], [-1]]
    assert answer(model, {"inputs": {"a": 2, "b": [1, 3]}}) == [3.0, 5.0]
    assert "the model takes numbers" in refusal(model, {"inputs": {"a": [2], "b": [1, 3]}}).message
    one = opened(tmp_path / "one.onnx", [helper.make_node("Neg", ["x"], ["y"])], [tensor("x", FLOAT, [])],
                 [tensor("y", FLOAT, [])])  # fmt: skip
    assert (one.example(), one.example_answer) == ({"data": 0.5}, -0.5)
    assert (answer(one, {"data": 3}), one.joinable) == (-3.0, False)
    found = asked(one, [{"name": "x", "datatype": "FP32", "shape": [], "data": [3]}])
    assert (found["shape"], found["data"]) == ([], [-3.0])


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x3a\xff\xff\xff\xff\x0f", b"\x08\x07:\x02Z\x7f"])
def test_a_file_that_is_not_read_has_no_scalars(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    assert scalars(tmp_path / "x.onnx") == scalars(tmp_path / "absent.onnx") == frozenset()


def test_a_check_inside_a_converted_graph_names_row_and_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # As the converter writes it: an index beyond the end where the logarithm is not a number.
    nodes = [
        helper.make_node("Log", ["a"], ["log"]),
        helper.make_node("IsNaN", ["log"], ["fault"]),
        helper.make_node("Cast", ["fault"], ["number"], to=TensorProto.INT64),
        helper.make_node("Gather", ["zero", "number"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["plain"], to=FLOAT),
        helper.make_node("Add", ["b", "plain"], ["part"]),
        helper.make_node("Add", ["log", "part"], ["y"]),
    ]
    zero = [helper.make_tensor("zero", TensorProto.INT64, [1], [0])]
    ports = [tensor("a", FLOAT, ["n", 1]), tensor("b", FLOAT, ["n", 1])]
    path = save(tmp_path / "model.onnx", nodes, ports, [tensor("y", FLOAT, ["n", 1])], zero)
    described = [{"name": n, "graph_name": n, "dtype": "float32", "shape": [None, 1]} for n in ("a", "b", "y")]
    manifest(tmp_path, described[:2], described[2:], row_wise=True, parity={})
    model = open_model(path, 1).model
    said = _messages(model, [[[1, 1]] * 5 + [[-4, 2], [-6, 2]], [[-3, 1]], [[2, 2]]])
    assert said[0].startswith("input 'a': row 5 is -4.0: the original model refuses that")
    assert said[1].startswith("input 'a': row 0 is -3.0: ")
    assert said[2] == "200"
    for told in said:
        assert not any(word in told for word in ("Gather", "index", "idx", "node", "/"))
    assert "onnxruntime" not in capfd.readouterr().err


def _messages(model: OnnxModel, bodies: list[Any]) -> list[str]:
    """What the answers to these rows say, each alone; 200 for one that is right."""

    async def ask() -> list[str]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(model, "m:1", RunQueue(Limits(), Metrics()), Batching(), pool, 1)
            said = []
            for rows in bodies:
                done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
                batcher.submit(model.read(request({"data": rows}))).then(done.set_result)
                response = await done
                said.append(response.problem or str(response.status))
            return said

    return asyncio.run(ask())
