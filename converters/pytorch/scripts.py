"""What a TorchScript archive records: whether it was traced, and what its first layers take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TRACED_NOTE = (
    "the archive was traced: a branch or a loop of the original module that depended on the data was fixed when it was "
    "traced, and the ONNX model was compared with the archive, not with that module; script it or use torch.export if "
    "it had one"
)
EXAMPLE_ROWS = 3
# Operators that leave the last axis of their first input as it is.
PASSING = ("aten::to", "aten::contiguous", "aten::dropout", "aten::relu", "aten::clone", "aten::detach", "aten::float")


def is_traced(module: Any) -> bool:
    """Whether the archive has parts from ``torch.jit.trace``, whose nodes know the calls that led to them."""
    ranges = (node.sourceRange() for node in nodes(module.inlined_graph))
    return any(re.match(r"\S.*\(\d+\): \S+\s*$", text.split("\n", 1)[0]) for text in ranges if text)


def nodes(block: Any) -> Iterator[Any]:
    """All nodes of a graph or block, those of inner blocks too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from nodes(inner)


def input_shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """By input name the shape of an example, where the first layer that reads the input is a linear one."""
    graph = module.inlined_graph
    arguments = [argument.name for argument in module.forward.schema.arguments]
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in zip(arguments, graph.inputs(), strict=True):
        width = _linear_width(module, value)
        if width is not None:
            shapes[name] = (EXAMPLE_ROWS, width)
    return shapes


def _linear_width(module: Any, value: Any) -> int | None:
    for use in value.uses():
        node = use.user
        if node.kind() == "aten::linear" and use.offset == 0:
            weight = _attribute(module, list(node.inputs())[1])
            return None if weight is None else int(weight.shape[1])
        if node.kind() in PASSING and use.offset == 0:
            width = _linear_width(module, node.output())
            if width is not None:
                return width
    return None


def _attribute(module: Any, value: Any) -> Any | None:
    """The tensor that a chain of ``prim::GetAttr`` reads."""
    path: list[str] = []
    node = value.node()
    while node.kind() == "prim::GetAttr":
        path.append(node.s("name"))
        node = next(iter(node.inputs())).node()
    found = module
    for name in reversed(path):
        found = getattr(found, name, None)
    return found if path and hasattr(found, "shape") else None
