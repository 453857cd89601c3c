"""What a load is measured to take, whatever went on in the process before."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edge_server.config.values import MIB
from tests.support.running import run

MEASURE = """
import json, sys, threading
import numpy as np
from pathlib import Path
from edge_server.models.loading import open_model
from edge_server.models.running.memory import Meter, settle_heap

if "settled" in sys.argv:
    settle_heap()
going = threading.Event()

def work():
    pieces = [bytes(5000) for _ in range(1000)]
    going.wait()

# Heaps that threads leave to those that come after them.
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
going.set()
for thread in threads:
    thread.join()
# The C library keeps pieces of up to that size from now on, unless it is told not to.
for _ in range(3):
    np.ones(31 * 2**17)
meter, found, models = Meter(), [], []

def load(path):
    size = path.stat().st_size
    measurement = meter.begin(size)
    models.append(open_model(path, 1))
    found.append(meter.end(measurement) / size)

for name in ("2", "8", "2", "8", "4", "8") * 3:
    thread = threading.Thread(target=load, args=(Path(sys.argv[1], name + ".onnx"),))
    thread.start()
    thread.join()
print(json.dumps(found[1:]))  # the first one takes what the runtime makes for all of them
"""


@pytest.mark.parametrize("heap", ["settled", "as it is"])
def test_what_a_load_takes_is_measured_the_same_on_any_threads_heap(tmp_path: Path, heap: str) -> None:
    for mib in (2, 4, 8):
        weights = np.random.default_rng(0).normal(size=(8, mib * MIB // 32)).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w"], ["p"]),
                helper.make_node("ReduceSum", ["p", "axes"], ["y"], keepdims=1),
            ],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
            [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([1]), "axes")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        save(model, str(tmp_path / f"{mib}.onnx"))
    command = [sys.executable, "-c", MEASURE, str(tmp_path), heap]
    found = json.loads(run(*command))
    assert all(1 <= times < 1.15 for times in found), found
