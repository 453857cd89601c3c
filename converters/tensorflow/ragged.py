"""TensorFlow's operators on rows of different lengths: flat values beside the numbers of their rows, or their ends.

Runs inside the sandbox only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from converters.tensorflow.writer import Writer
from edgepack.errors import ConversionError

EXPORT = "export ONNX yourself and register that with --framework Onnx"
HINT = f"pad the rows to one length in the model (to_tensor()), or {EXPORT}"

_END = (1 << 63) - 1  # of a slice to the end


def handlers() -> dict[str, Callable[[Any, Any], None]]:
    """By operator what writes it."""
    return {"RaggedTensorToTensor": _to_tensor, "RaggedBincount": _row_counts, "DenseBincount": _counts}


def lengths(writer: Writer, splits: str) -> tuple[str, str]:
    """Where each row begins, and how many values it has."""
    most = writer.whole([_END])
    starts = writer.node("Slice", [splits, writer.whole([0]), writer.whole([-1])])
    ends = writer.node("Slice", [splits, writer.whole([1]), most])
    return starts, writer.node("Sub", [ends, starts])


def row_numbers(writer: Writer, splits: str, count: str) -> str:
    """The row of each of ``count`` values."""
    ends = writer.node("Slice", [splits, writer.whole([1]), writer.whole([_END])])
    ones = writer.node("Expand", [writer.whole(1), writer.node("Shape", [ends])])
    steps = _scattered(writer, writer.node("Add", [count, writer.whole(1)]), ends, ones)
    rows = writer.node("CumSum", [steps, writer.whole(0)])
    return writer.node("Slice", [rows, writer.whole([0]), writer.node("Reshape", [count, writer.whole([1])])])


def places(writer: Writer, rows: str, starts: str) -> str:
    """The place of each value in its row."""
    count = writer.node("Size", [rows])
    numbers = writer.node("Range", [writer.whole(0), count, writer.whole(1)])
    return writer.node("Sub", [numbers, writer.node("Gather", [starts, rows])])


def _scattered(writer: Writer, size: str, at: str, values: str) -> str:
    """``size`` sums of the ``values``, int64, that belong ``at`` each."""
    zeros = writer.node("Expand", [writer.whole(0), writer.node("Reshape", [size, writer.whole([1])])])
    return writer.node("ScatterElements", [zeros, at, values], axis=0, reduction="add")


def _to_tensor(ctx: Any, node: Any) -> None:
    """Rows of one length, filled up with a value, cut off where the shape says so."""
    kinds = [
        kind.decode() if isinstance(kind, bytes) else kind for kind in node.get_attr("row_partition_types").strings
    ]
    shape = node.inputs[0].get_tensor_value(as_list=True) if node.inputs[0].is_const() else None
    wide = shape[1] if isinstance(shape, list) and len(shape) == 2 else -1 if shape in (-1, [-1]) else None
    if (
        kinds not in (["FIRST_DIM_SIZE", "VALUE_ROWIDS"], ["ROW_SPLITS"])
        or wide is None
        or (ctx.get_rank(node.input[1]) or 0) > 1
    ):
        raise ConversionError("the model has rows of different lengths in a form without ONNX operators", hint=HINT)
    writer = Writer(ctx, node)
    values, filling, *parts = writer.inputs[1:]
    if len(parts) == 1:
        splits = writer.int64(parts[0])
        rows = row_numbers(writer, splits, writer.node("Size", [values]))
        starts, many = lengths(writer, splits)
    else:
        rows = writer.int64(parts[1])
        ones = writer.node("Expand", [writer.whole(1), writer.node("Shape", [rows])])
        many = _scattered(writer, writer.int64(parts[0]), rows, ones)
        starts = writer.node("Sub", [writer.node("CumSum", [many, writer.whole(0)]), many])
    place = places(writer, rows, starts)
    if wide < 0:
        longest = writer.node("ReduceMax", [writer.node("Concat", [many, writer.whole([0])], axis=0)], keepdims=1)
    else:
        longest = writer.whole([wide])
        within = writer.node("Less", [place, longest])
        rows, place, values = (writer.node("Compress", [name, within], axis=0) for name in (rows, place, values))
    full = writer.node("Expand", [filling, writer.node("Concat", [writer.node("Shape", [many]), longest], axis=0)])
    writer.last("ScatterND", [full, _pairs(writer, rows, place), values])


def _row_counts(ctx: Any, node: Any) -> None:
    """How often each number below a size occurs in a row."""
    size = _size(ctx, node.input[2])
    binary = bool(node.get_attr_value("binary_output", 0))
    if not _is_empty(ctx, node.input[3]):
        raise ConversionError("the model counts with weights in rows of different lengths", hint=HINT)
    writer = Writer(ctx, node)
    splits, values = writer.int64(writer.inputs[0]), writer.int64(writer.inputs[1])
    rows = row_numbers(writer, splits, writer.node("Size", [values]))
    size = writer.node("Reshape", [writer.int64(size), writer.whole([1])])
    within = writer.node("Less", [values, size])
    rows, values = (writer.node("Compress", [name, within], axis=0) for name in (rows, values))
    _, many = lengths(writer, splits)
    zeros = writer.node(
        "Expand", [writer.whole(0), writer.node("Concat", [writer.node("Shape", [many]), size], axis=0)]
    )
    ones = writer.node("Expand", [writer.whole(1), writer.node("Shape", [values])])
    counts = writer.node("ScatterND", [zeros, _pairs(writer, rows, values), ones], reduction="add")
    writer.last("Cast", [writer.node("Min", [counts, writer.whole(1)]) if binary else counts], to=writer.kind)


def _counts(ctx: Any, node: Any) -> None:
    """How often each number below a size occurs, in all or in each row; or the sums of the weights beside them.

    For one axis and for two: tf2onnx often does not know which.
    """
    from onnx import TensorProto

    size = _size(ctx, node.input[1])
    binary, weighted = bool(node.get_attr_value("binary_output", 0)), not _is_empty(ctx, node.input[2])
    if weighted and ctx.get_dtype(node.input[2]) not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        raise ConversionError(
            "the model counts by weights that are whole numbers, which has no ONNX form here",
            hint=f"let the weights be float32, or {EXPORT}",
        )
    writer = Writer(ctx, node)
    flat, one = writer.whole([-1]), writer.whole([1])
    values, size = writer.int64(writer.inputs[0]), writer.node("Reshape", [writer.int64(size), one])
    shape = writer.node("Shape", [values])
    table = writer.node(
        "Slice", [writer.node("Concat", [one, shape], axis=0), writer.whole([-2]), writer.whole([_END])]
    )
    rows = writer.node("Slice", [table, writer.whole([0]), one])
    number = writer.node("Range", [writer.whole(0), writer.node("Squeeze", [rows]), writer.whole(1)])
    row = writer.node("Expand", [writer.node("Unsqueeze", [number, one]), table])
    row, values = writer.node("Reshape", [row, flat]), writer.node("Reshape", [values, flat])
    kind = ctx.get_dtype(writer.inputs[2]) if weighted else TensorProto.INT64
    ones = writer.node("Expand", [writer.whole(1), writer.node("Shape", [values])])
    added = writer.node("Reshape", [writer.inputs[2], flat]) if weighted else ones
    within = writer.node("Less", [values, size])
    row, values, added = (writer.node("Compress", [name, within], axis=0) for name in (row, values, added))
    zeros = writer.node("Expand", [writer.constant(0, kind), writer.node("Concat", [rows, size], axis=0)])
    counts = writer.node("ScatterND", [zeros, _pairs(writer, row, values), added], reduction="add")
    counts = writer.node("Min", [counts, writer.whole(1)]) if binary and not weighted else counts
    given = writer.node("Slice", [shape, writer.whole([0]), writer.whole([-1])])
    counts = writer.node("Reshape", [counts, writer.node("Concat", [given, size], axis=0)], allowzero=1)
    writer.last("Cast", [counts], to=writer.kind)


def _is_empty(ctx: Any, name: str) -> bool:
    """Whether a tensor has no values: TensorFlow's counts without weights."""
    node = ctx.get_node_by_output(name)
    if node is not None and node.is_const():
        return int(node.get_tensor_value(as_list=False).size) == 0
    return 0 in (ctx.get_shape(name) or ())


def _pairs(writer: Writer, rows: str, columns: str) -> str:
    one = writer.whole([1])
    return writer.node("Concat", [writer.node("Unsqueeze", [name, one]) for name in (rows, columns)], axis=1)


def _size(ctx: Any, name: str) -> str:
    """The size of a count without what it is made of, where that cannot change it: the largest number of no numbers.

    TensorFlow writes ``min(most, max(least, largest + 1))``, mostly with the same number as most and least.
    """
    node = ctx.get_node_by_output(name)
    if node is None or node.type not in ("Minimum", "Min") or len(node.input) != 2:
        return name
    for place in (0, 1):
        other, most = node.inputs[1 - place], node.input[place]
        if other is None or other.type not in ("Maximum", "Max"):
            continue
        for least in other.input:
            if least == most or _constant(ctx, least) >= _constant(ctx, most, 1 << 62):
                return str(most)
    return name


def _constant(ctx: Any, name: str, otherwise: int = -1) -> int:
    node = ctx.get_node_by_output(name)
    return int(node.get_tensor_value()) if node is not None and node.is_const() else otherwise
