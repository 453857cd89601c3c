"""Writing ONNX nodes in the place of one of TensorFlow's, in tf2onnx's graph. Runs inside the sandbox only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Writer:
    """Writes ONNX nodes in the place of one of TensorFlow's, which it removes."""

    def __init__(self, ctx: Any, node: Any) -> None:
        self.inputs = list(node.input)
        self.kinds = [ctx.get_dtype(name) for name in node.input]
        self._outputs, self._name = list(node.output), node.name
        self._shapes = [ctx.get_shape(name) for name in node.output]
        self._kinds = [ctx.get_dtype(name) for name in node.output]
        self.kind = self._kinds[0]
        self._ctx = ctx
        ctx.remove_node(node.name)

    def shaped_as(self, name: str) -> None:
        """Let the output have the shape of another tensor, where tf2onnx does not know its own."""
        if self._shapes[0] is None:
            self._shapes[0] = self._ctx.get_shape(name)

    def node(self, operator: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """A node between; its output's name."""
        from tf2onnx.utils import make_name

        name = make_name(f"{self._name}/{operator}")
        return str(self._ctx.make_node(operator, inputs, name=name, domain=domain, attr=attributes).output[0])

    def last(self, operator: str, inputs: list[str], domain: str = "", place: int = 0, **attributes: Any) -> None:
        """The node that writes what TensorFlow's did, as its output number ``place``."""
        self._ctx.make_node(
            operator,
            inputs,
            name=self._name if place == 0 else f"{self._name}__{place}",
            outputs=[self._outputs[place]],
            domain=domain,
            attr=attributes,
            shapes=[self._shapes[place]],
            dtypes=[self._kinds[place]],
        )

    def constant(self, value: Any, kind: int | None = None) -> str:
        """A constant of an ONNX type, by default the output's; its name."""
        import numpy as np
        from tf2onnx.utils import make_name, map_onnx_to_numpy_type

        dtype = map_onnx_to_numpy_type(self.kind if kind is None else kind)
        return str(self._ctx.make_const(make_name(f"{self._name}/constant"), np.array(value, dtype=dtype)).output[0])

    def whole(self, value: int | Sequence[int]) -> str:
        """A constant of int64, in which ONNX has shapes, axes and places."""
        from onnx import TensorProto

        return self.constant(value, TensorProto.INT64)

    def text(self, value: Any) -> str:
        """A constant of text."""
        from onnx import TensorProto

        return self.constant(value, TensorProto.STRING)

    def double(self, name: str) -> str:
        """The tensor as double."""
        from onnx import TensorProto

        return self.node("Cast", [name], to=TensorProto.DOUBLE)

    def int64(self, name: str) -> str:
        """The tensor as int64."""
        from onnx import TensorProto

        return self.node("Cast", [name], to=TensorProto.INT64)

    def loop(self, body: Any, times: str, state: str) -> str:
        """A Loop over one value of text, which ``body``, a graph of tf2onnx's, takes and gives; the last one."""
        from tf2onnx.utils import make_name

        made = self._ctx.make_node(
            "Loop", [times, "", state], name=make_name(f"{self._name}/Loop"), branches={"body": body}
        )
        return str(made.output[0])

    def inner(self) -> Any:
        """An empty graph of tf2onnx's for the body of a loop."""
        graph = self._ctx.create_new_graph_with_same_config()
        graph.parent_graph = self._ctx
        return graph
