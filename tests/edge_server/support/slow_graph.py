"""A graph whose runs take as long as the request says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def slow_graph(path: Path) -> None:
    """A loop of matrix products, as many as the input says."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state_in", "weights"], ["state_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_in", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [256, 256]),
        ],
    )
    eye = np.eye(256, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Squeeze", ["turns"], ["trips"]),
            helper.make_node("Loop", ["trips", "", "start"], ["end"], body=body),
            helper.make_node("ReduceMax", ["end"], ["largest"], keepdims=0),
        ],
        "slow",
        [helper.make_tensor_value_info("turns", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("largest", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(eye, "weights"), numpy_helper.from_array(eye, "start")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


def turns_for(server: Any, seconds: float) -> int:
    """How many turns of the slow graph take that long here."""
    turns = 100
    while True:
        begin = time.monotonic()
        assert server.score({"data": [turns]}) == (200, 1.0)
        spent = time.monotonic() - begin
        if spent > 0.1:
            return int(turns * seconds / spent)
        turns *= 4
