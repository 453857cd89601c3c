"""An exporter's graph made plain: declared shapes, no traces of its making, and what its outputs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converters.graph import edits
from converters.proof import feeds
from converters.proof.specs import Explored
from converters.pytorch.original import Original

IR_VERSION = 8  # the one of opset 18; exporters write a newer one for metadata, which is stripped
# Operators that may come between a softmax and the output that it makes.
PASSING = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape")


def finish(model: Any, original: Original, explored: Explored) -> dict[str, str]:
    """Strip the graph and declare its shapes as running the original showed them; the roles of its outputs.

    Raises ``ConversionError`` when the graph does not keep to the ONNX specification.
    """
    edits.strip(model)
    model.ir_version = min(model.ir_version, IR_VERSION)
    # Inner shapes name the exporter's symbols; a runtime infers them anew.
    del model.graph.value_info[:]
    for spec in explored.specs:
        for value in model.graph.input:
            if value.name == spec.name:
                _declare(value, spec.shape)
    for name, shape in _output_shapes(original, explored).items():
        for value in model.graph.output:
            if value.name == name:
                _declare(value, _with_unknown(value, shape))
    edits.check(model)
    return roles(model)


def roles(model: Any) -> dict[str, str]:
    """By output name ``probabilities`` where the graph ends in a softmax or sigmoid, ``scores`` in a log-softmax."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for output in model.graph.output:
        node = makers.get(output.name)
        while node is not None and node.op_type in PASSING:
            node = makers.get(node.input[0])
        if node is not None and node.op_type in ("Softmax", "Sigmoid"):
            found[output.name] = "probabilities"
        elif node is not None and node.op_type == "LogSoftmax":
            found[output.name] = "scores"
    return found


def _output_shapes(original: Original, explored: Explored) -> dict[str, tuple[int | None, ...]]:
    """By output the shape, None for an axis whose length follows that of an input's."""
    import numpy as np

    sizes = [(rows, length) for length in explored.lengths for rows in ((2, 4) if explored.batched else (1,))]
    answers = [original.answer(feeds.random_feeds(explored.specs, rows, length=length)) for rows, length in sizes]
    shapes = {}
    for name in original.outputs:
        seen = [np.shape(answer[name]) for answer in answers]
        if len({len(shape) for shape in seen}) == 1:
            axes = zip(*seen, strict=True)
            shapes[name] = tuple(lengths[0] if len(set(lengths)) == 1 else None for lengths in axes)
    return shapes


def _with_unknown(value: Any, shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """The shape, open also where the exporter says that an axis depends on the values (``u0``)."""
    declared = value.type.tensor_type.shape.dim
    if len(declared) != len(shape):
        return tuple(shape)
    return tuple(
        None if axis.dim_param.startswith("u") and axis.dim_param[1:].isdigit() else length
        for axis, length in zip(declared, shape, strict=True)
    )


def _declare(value: Any, shape: Sequence[int | None]) -> None:
    value.type.tensor_type.ClearField("shape")
    value.type.tensor_type.shape.SetInParent()  # that of a scalar has no axes, and is there
    for number, length in enumerate(shape):
        axis = value.type.tensor_type.shape.dim.add()
        if length is not None:
            axis.dim_value = length
        else:
            axis.dim_param = ("batch", "length")[number] if number < 2 else f"{value.name}_{number}"
