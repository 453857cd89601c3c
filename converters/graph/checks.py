"""Checks in a graph: where its numbers are not to be answered, the run fails.

ONNX has no operator that fails; a ``Gather`` beyond the end of its data does, in every version of onnxruntime, and the
server answers such a run with status 400.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def passed(nodes: Any, name: str, fault: str) -> str:
    """The tensor ``name`` again; a run in which the flag ``fault``, which has no axes, is set fails."""
    import numpy as np
    from onnx import TensorProto

    number = nodes.add("Cast", fault, to=int(TensorProto.INT64))
    zero = nodes.add("Gather", nodes.constant(np.zeros(1, np.int64)), number, axis=0)
    return str(nodes.add("Reshape", name, nodes.add("Add", nodes.add("Shape", name), zero)))


def within(model: Any, limits: Mapping[str, Sequence[float]]) -> None:
    """Let the graph fail on numbers of an input beyond ``limits``: by input, a size for each of its columns."""
    import numpy as np
    from onnx import TensorProto

    graph = model.graph
    added: list[Any] = []
    for value in graph.input:
        if value.name not in limits:
            continue
        nodes = _PlainNodes(value.name, added, graph.initializer)
        kind = np.float64 if value.type.tensor_type.elem_type == TensorProto.DOUBLE else np.float32
        most = nodes.constant(np.asarray(limits[value.name], dtype=kind).reshape(1, -1))
        beyond = nodes.add("Cast", nodes.add("Greater", nodes.add("Abs", value.name), most), to=int(TensorProto.INT64))
        fault = nodes.add("Greater", nodes.add("ReduceSum", beyond, keepdims=0), nodes.constant(np.zeros((), np.int64)))
        checked = passed(nodes, value.name, fault)
        for node in graph.node:
            for position, name in enumerate(node.input):
                if name == value.name:
                    node.input[position] = checked
    rest = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*added, *rest])


def without_nan(model: Any) -> bool:
    """Let the graph fail instead of answering NaN in an output of floats; whether it has such an output."""
    import numpy as np
    from onnx import TensorProto

    graph = model.graph
    added: list[Any] = []
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
    for value in graph.output:
        if value.type.tensor_type.elem_type not in floats:
            continue
        inner = f"{value.name}__unchecked"
        for node in graph.node:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == value.name:
                        names[position] = inner
        nodes = _PlainNodes(value.name, added, graph.initializer)
        # Not the sum itself, in which infinities of both signs give NaN too.
        places = nodes.add("Cast", nodes.add("IsNaN", inner), to=int(TensorProto.INT64))
        fault = nodes.add("Greater", nodes.add("ReduceSum", places, keepdims=0), nodes.constant(np.zeros((), np.int64)))
        checked = passed(nodes, inner, fault)
        nodes.add_as(value.name, "Identity", checked)
    graph.node.extend(added)
    return bool(added)


class _PlainNodes:
    """Collects nodes of a finished graph, named after one of its inputs."""

    def __init__(self, seed: str, added: list[Any], initializers: Any) -> None:
        self._seed, self._added, self._initializers = seed, added, initializers

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{self._seed}__limit{len(self._added)}"
        self._added.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def add_as(self, name: str, op_type: str, *inputs: str) -> None:
        from onnx import helper

        self._added.append(helper.make_node(op_type, list(inputs), [name], name=name))

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{self._seed}__limit_constant{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(value, name))
        return name
