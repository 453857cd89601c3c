"""Which graphs a value can keep at work for long: by the operators' own rules, whatever the file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_server.models.files.run_bounds import is_bounded
from tests.support.sampling import times

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def body(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "body", [], [helper.make_tensor_value_info("b", FLOAT, None)])


def graph(path: Path, *nodes: onnx.NodeProto, overridable: bool = False) -> Path:
    """A model of inputs x (FLOAT), n and m (INT64), and constants s, z and w, which may be given where overridable."""
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in (("x", FLOAT), ("n", INT), ("m", INT))]
    if overridable:
        inputs.append(helper.make_tensor_value_info("w", INT, [2]))
    values: dict[str, Any] = {"s": [2, 2], "z": 1, "w": [1, 1]}
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in values.items()]
    made = helper.make_graph(
        list(nodes), "graph", inputs, [helper.make_tensor_value_info("y", FLOAT, None)], initializer=constants
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize(
    ("bounded", "nodes"),
    [
        (True, [node("Add", "x x", "y")]),
        (True, [node("Expand", "x s", "y")]),
        (True, [node("Shape", "x", "h"), node("Expand", "x h", "y")]),
        (True, [node("Shape", "x", "h"), node("Mul", "h s", "i"), node("ConstantOfShape", "i", "y")]),
        (True, [node("Gather", "x n", "y")]),
        (True, [node("Cast", "x", "c", to=INT), node("Gather", "x c", "y")]),
        (False, [node("Expand", "x n", "y")]),
        (False, [node("Tile", "x n", "y")]),
        (False, [node("Range", "z n z", "y")]),
        (False, [node("Range", "x x x", "y")]),
        (False, [node("OneHot", "m n s", "y")]),
        (False, [node("Cast", "x", "c", to=INT), node("Abs", "c", "d"), node("Expand", "x d", "y")]),
        (False, [node("Shape", "x", "h"), node("Mul", "h n", "i"), node("ConstantOfShape", "i", "y")]),
        (False, [node("Identity", "n", "h"), node("Resize", "x  h", "y")]),
        (False, [node("Loop", "n  x", "y", body=body(node("Add", "x x", "b")))]),
        (False, [node("If", "n", "y", then_branch=body(node("Add", "x x", "b")), else_branch=body())]),
        (False, [node("BeamSearch", "n", "y", domain="com.microsoft")]),
    ],
)
def test_values_that_become_sizes_are_found(tmp_path: Path, bounded: bool, nodes: list[onnx.NodeProto]) -> None:
    assert is_bounded(graph(tmp_path / "model.onnx", *nodes)) is bounded


def test_a_constant_that_clients_may_give_is_what_is_sent(tmp_path: Path) -> None:
    nodes = [node("Expand", "x w", "y")]
    assert is_bounded(graph(tmp_path / "model.onnx", *nodes))
    assert not is_bounded(graph(tmp_path / "model.onnx", *nodes, overridable=True))


def test_functions_are_not_looked_into(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "model.onnx", node("Add", "x x", "y")))
    made = helper.make_function("own", "f", ["a"], ["b"], [node("Range", "a a a", "b")], [helper.make_opsetid("", 18)])
    model.functions.append(made)
    onnx.save(model, str(tmp_path / "functions.onnx"))
    assert not is_bounded(tmp_path / "functions.onnx")


@settings(max_examples=times(200, 100), deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), cut=st.integers(1, 400))
def test_damaged_files_end_in_an_answer(tmp_path: Path, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(graph(tmp_path / "model.onnx", node("Shape", "x", "h"), node("Expand", "x h", "y")).read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    (tmp_path / "damaged.onnx").write_bytes(data[: cut + 20])
    assert is_bounded(tmp_path / "damaged.onnx") in (True, False)
