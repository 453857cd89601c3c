"""The inside of a loop: a separate graph with access only to its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Body:
    """The subgraph of a ``Scan`` or a ``Loop``, written like ``Ops``: each call adds a node and returns its output.

    Where a tensor's name is taken, a number or an array is too; floating ones become ``dtype``.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, op_type: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node with one output, and return that output's name."""
        from onnx import helper

        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        result = f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, names, [result], name=result, **attributes))
        return result

    def graph(
        self, inputs: Sequence[tuple[str, Any, int | None]], outputs: Sequence[tuple[str, Any, int | None]]
    ) -> Any:
        """The finished graph. Each of ``inputs`` and ``outputs`` is a name, a numpy type and the number of axes."""
        from onnx import helper

        def declare(name: str, dtype: Any, axes: int | None) -> Any:
            shape = None if axes is None else [None] * axes
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

        renamed = []
        for number, (name, dtype, axes) in enumerate(outputs):
            # An output of its own name: a graph may not hand an input or the same tensor out twice.
            self._nodes.append(helper.make_node("Identity", [name], [f"result_{number}"], name=f"result_{number}"))
            renamed.append(declare(f"result_{number}", dtype, axes))
        return helper.make_graph(
            self._nodes, "body", [declare(*entry) for entry in inputs], renamed, initializer=self._constants
        )

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        array = np.asarray(value)
        array = array.astype(self.dtype) if array.dtype.kind == "f" else array
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name
