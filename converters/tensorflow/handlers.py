"""Operators for which tf2onnx has no handler, or one too narrow, and which ONNX's operators can express exactly.

Each is registered with tf2onnx's own mechanism (``custom_op_handlers``). What has a plain formula that float32 would
blur (``Log1p``) is computed in double. Runs inside the sandbox only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from converters.tensorflow import ragged, text
from converters.tensorflow.writer import Writer

ML_DOMAIN = "ai.onnx.ml"
Tables = Mapping[bytes, tuple[Any, Any]]
# LabelEncoder's attributes by the kind of numpy's dtype (ai.onnx.ml 2).
_KEYS = {"S": "strings", "O": "strings", "i": "int64s"}
_DEFAULTS = {"strings": "default_string", "int64s": "default_int64"}


def handlers(tables: Tables, definition: Any) -> dict[str, tuple[Any, list[Any]]]:
    """For ``process_tf_graph``: the handlers by operator; ``tables`` has keys and values by a table's shared name.

    ``definition`` is the whole graph, for operators that depend on what reads them.
    """

    def by_node(write: Callable[[Any, Any], None]) -> tuple[Any, list[Any]]:
        return (lambda ctx, node, _name, _args, **_: write(ctx, node)), []

    def wrapped(write: Callable[[Writer], None]) -> tuple[Any, list[Any]]:
        return (lambda ctx, node, _name, _args, **_: write(Writer(ctx, node))), []

    def lookup(ctx: Any, node: Any, _name: str, _args: Any, **_: Any) -> None:
        _lookup(ctx, node, tables)

    def bucketize(ctx: Any, node: Any, _name: str, _args: Any, **_: Any) -> None:
        boundaries = list(node.get_attr("boundaries").floats)
        _bucketize(Writer(ctx, node), boundaries)

    def norm(ctx: Any, node: Any, _name: str, _args: Any, **_: Any) -> None:
        keep = node.get_attr_value("keep_dims", 0)
        writer = Writer(ctx, node)
        axes = _as_int64(writer, writer.inputs[1])
        writer.last("ReduceL2", [writer.inputs[0], axes], keepdims=int(keep))

    def one_hot(ctx: Any, node: Any, _name: str, _args: Any, **_: Any) -> None:
        axis = node.get_attr_value("axis", -1)
        _one_hot(Writer(ctx, node), int(axis))

    plain = {
        "Erfc": _erfc,
        "Log1p": _log1p,
        "Expm1": _expm1,
        "Xlogy": _xlogy,
        "Xlog1py": _xlog1py,
        "Xdivy": _xdivy,
        "TruncateMod": _truncate_mod,
        "ScatterNd": _scatter_nd,
        "FloorMod": _floor_mod,
        "FloorDiv": _floor_div,
        "LowerBound": lambda writer: _bound(writer, "Less"),
        "UpperBound": lambda writer: _bound(writer, "LessOrEqual"),
    }
    special = {"LookupTableFindV2": lookup, "Bucketize": bucketize, "EuclideanNorm": norm, "OneHot": one_hot}
    on_text = text.handlers(text.only_split(definition)) | ragged.handlers()
    return (
        {name: wrapped(write) for name, write in plain.items()}
        | {name: (handler, []) for name, handler in special.items()}
        | {name: by_node(write) for name, write in on_text.items()}
    )


def _erfc(writer: Writer) -> None:
    """1 - Erf, which exact GELU needs (tensorflow-onnx issue 2347)."""
    writer.last("Sub", [writer.constant(1), writer.node("Erf", writer.inputs)])


def _log1p(writer: Writer) -> None:
    from onnx import TensorProto

    one = writer.constant(1, TensorProto.DOUBLE)
    found = writer.node("Log", [writer.node("Add", [writer.double(writer.inputs[0]), one])])
    writer.last("Cast", [found], to=writer.kind)


def _expm1(writer: Writer) -> None:
    from onnx import TensorProto

    one = writer.constant(1, TensorProto.DOUBLE)
    found = writer.node("Sub", [writer.node("Exp", [writer.double(writer.inputs[0])]), one])
    writer.last("Cast", [found], to=writer.kind)


def _xlogy(writer: Writer) -> None:
    _unless_zero(writer, "Mul", writer.node("Log", [writer.inputs[1]]))


def _xlog1py(writer: Writer) -> None:
    from onnx import TensorProto

    one = writer.constant(1, TensorProto.DOUBLE)
    found = writer.node("Log", [writer.node("Add", [writer.double(writer.inputs[1]), one])])
    _unless_zero(writer, "Mul", writer.node("Cast", [found], to=writer.kind))


def _xdivy(writer: Writer) -> None:
    _unless_zero(writer, "Div", writer.inputs[1])


def _unless_zero(writer: Writer, operator: str, right: str) -> None:
    """0 where the first operand is 0, whatever the second."""
    zero = writer.constant(0)
    is_zero = writer.node("Equal", [writer.inputs[0], zero])
    writer.last("Where", [is_zero, zero, writer.node(operator, [writer.inputs[0], right])])


def _one_hot(writer: Writer, axis: int) -> None:
    """Nothing for a negative place, as TensorFlow does; ONNX's own counts it from the end."""
    from onnx import TensorProto

    places, depth, on, off = writer.inputs
    places = writer.node("Cast", [places], to=TensorProto.INT64)
    depth = writer.node("Cast", [depth], to=TensorProto.INT64)
    negative = writer.node("Less", [places, writer.constant(0, TensorProto.INT64)])
    places = writer.node("Where", [negative, depth, places])
    flat = writer.constant([-1], TensorProto.INT64)
    values = writer.node("Concat", [writer.node("Reshape", [value, flat]) for value in (off, on)], axis=0)
    # The runtime has no OneHot of every type.
    whole = writer.kinds[2] in (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)
    values = writer.node("Cast", [values], to=TensorProto.INT64 if whole else TensorProto.FLOAT)
    writer.last("Cast", [writer.node("OneHot", [places, depth, values], axis=axis)], to=writer.kind)


def _scatter_nd(writer: Writer) -> None:
    """The updates of one place are added up; tf2onnx keeps the last."""
    indices, updates, shape = writer.inputs
    zeros = writer.node("Expand", [writer.constant(0), writer.int64(shape)])
    writer.last("ScatterND", [zeros, writer.int64(indices), updates], reduction="add")


def _truncate_mod(writer: Writer) -> None:
    writer.last("Mod", writer.inputs, fmod=1)


def _floor_mod(writer: Writer) -> None:
    """The remainder with the divisor's sign; tf2onnx has the dividend's for whole numbers."""
    if not _is_float(writer.kind):
        writer.last("Mod", writer.inputs)
        return
    # By the exact remainder: a quotient that is rounded up to a whole number would count one more.
    left, right = writer.inputs
    rest, zero = writer.node("Mod", [left, right], fmod=1), writer.constant(0)
    signs = [writer.node("Less", [value, zero]) for value in (rest, right)]
    aside = writer.node("Not", [writer.node("Equal", [rest, zero])])
    other = writer.node("And", [aside, writer.node("Xor", signs)])
    writer.last("Where", [other, writer.node("Add", [rest, right]), rest])


def _floor_div(writer: Writer) -> None:
    """The quotient rounded down; tf2onnx rounds to 0 for whole numbers."""
    left, right = writer.inputs
    if _is_float(writer.kind):
        writer.last("Floor", [writer.node("Div", [left, right])])
    else:
        writer.last("Div", [writer.node("Sub", [left, writer.node("Mod", [left, right])]), right])


def _is_float(kind: int) -> bool:
    from onnx import TensorProto

    return kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def _bound(writer: Writer, comparison: str) -> None:
    """``searchsorted``: how many of each row's sorted values are less than (or equal to) each sought one."""
    from onnx import TensorProto

    row = writer.node("Unsqueeze", [writer.inputs[0], writer.constant([-2], TensorProto.INT64)])
    sought = writer.node("Unsqueeze", [writer.inputs[1], writer.constant([-1], TensorProto.INT64)])
    _count(writer, writer.node(comparison, [row, sought]))


def _bucketize(writer: Writer, boundaries: list[float]) -> None:
    """How many boundaries are not larger; NaN counts them all, as TensorFlow's upper bound does."""
    from onnx import TensorProto

    given, kind = writer.inputs[0], writer.kinds[0]
    if kind not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        given, kind = writer.double(given), TensorProto.DOUBLE  # whole numbers beside float32 boundaries
    cells = writer.node("Unsqueeze", [given, writer.constant([-1], TensorProto.INT64)])
    below = writer.node("Less", [cells, writer.constant(boundaries, kind)])
    _count(writer, writer.node("Not", [below]))


def _count(writer: Writer, truths: str) -> None:
    """How many of the last axis are true."""
    from onnx import TensorProto

    ones = writer.node("Cast", [truths], to=writer.kind)
    writer.last("ReduceSum", [ones, writer.constant([-1], TensorProto.INT64)], keepdims=0)


def _as_int64(writer: Writer, name: str) -> str:
    """Axes as the one-dimensional int64 that ONNX takes."""
    from onnx import TensorProto

    flat = writer.node("Reshape", [name, writer.constant([-1], TensorProto.INT64)])
    return writer.node("Cast", [flat], to=TensorProto.INT64)


def _lookup(ctx: Any, node: Any, tables: Tables) -> None:
    """A table as a LabelEncoder, which also has whole numbers to whole numbers (IntegerLookup), as tf2onnx has not."""
    import numpy as np
    from onnx import TensorProto
    from tf2onnx.utils import make_sure

    table = node.inputs[0]
    while table.type == "Identity":
        table = table.inputs[0]
    shared = table.get_attr_value("shared_name")
    make_sure(shared in tables, "a table of the model is not known")
    make_sure(node.inputs[2].is_const(), "the default of a table is not constant")
    keys, values = (np.asarray(part) for part in tables[shared])
    default = np.asarray(node.inputs[2].get_tensor_value(as_list=False)).reshape(-1)[0]
    key_kind, value_kind = _KEYS.get(keys.dtype.kind), _KEYS.get(values.dtype.kind)
    make_sure(bool(key_kind and value_kind), "a table from %s to %s has no ONNX operator", keys.dtype, values.dtype)
    writer = Writer(ctx, node)
    given = writer.inputs[1]
    writer.shaped_as(given)  # a count of what was found has rows only where the rank is known
    if writer.kinds[1] == TensorProto.INT32:
        given = writer.node("Cast", [given], to=TensorProto.INT64)
    attributes = {
        f"keys_{key_kind}": keys.tolist(),
        f"values_{value_kind}": values.tolist(),
        _DEFAULTS[str(value_kind)]: default if isinstance(default, bytes | str) else default.item(),
    }
    if writer.kind == TensorProto.INT32:
        found = ctx.make_node("LabelEncoder", [given], domain=ML_DOMAIN, attr=attributes).output[0]
        writer.last("Cast", [found], to=TensorProto.INT32)
    else:
        writer.last("LabelEncoder", [given], domain=ML_DOMAIN, **attributes)
    if not ctx.find_output_consumers(table.output[0]):
        ctx.remove_node(table.name)
