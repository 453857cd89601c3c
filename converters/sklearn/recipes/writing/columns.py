"""An estimator's input column by column, each of its own type, and looking its values up in a list of known ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from converters.sklearn.inputs import MISSING_TEXT
from converters.sklearn.recipes.writing.ops import ML, Ops
from edgepack.errors import ConversionError


@dataclass(frozen=True)
class Column:
    """One column of the input, shape (rows, 1): the tensor's name, and what it holds."""

    name: str
    kind: Literal["text", "whole", "number"]


def split(ops: Ops) -> list[Column]:
    """All columns of the estimator's inputs, in order; numbers are of ``ops.dtype``, whole ones int64."""
    from onnx import TensorProto
    from skl2onnx.common.data_types import (
        BooleanTensorType,
        DoubleTensorType,
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )

    found: list[Column] = []
    inputs = ops.operator.inputs
    for variable in inputs:
        name, kind = variable.full_name, type(variable.type)
        width = variable.type.shape[1] if len(variable.type.shape) > 1 else 1
        if not isinstance(width, int):
            if len(inputs) > 1:
                raise ConversionError(
                    f"the width of an input of {type(ops.model).__name__} is not known",
                    hint="put the columns of each transformer in a ColumnTransformer of their own",
                )
            width = int(ops.model.n_features_in_)
        if issubclass(kind, StringTensorType):
            meaning: Literal["text", "whole", "number"] = "text"
        elif issubclass(kind, DoubleTensorType | FloatTensorType):
            name, meaning = ops.cast(name), "number"
        elif issubclass(kind, Int64TensorType | BooleanTensorType):
            name, meaning = ops.cast(name, int(TensorProto.INT64)), "whole"
        else:
            name, meaning = ops.cast(name), "number"
        found += [Column(name if width == 1 else ops.columns(name, [index]), meaning) for index in range(width)]
    return found


def lookup(ops: Ops, column: Column, known: Sequence[Any]) -> str:
    """Per row the index of the column's value among ``known``, ``len(known)`` where it is not there; int64, (rows,).

    A missing value (None or NaN among the known) is found where the column's is missing.
    """
    index = _text_index(ops, column, known) if column.kind == "text" else _number_index(ops, column, known)
    return ops.reshape(index, [-1])


def is_missing(value: Any) -> bool:
    """Whether a fitted value means a missing one: None, NaN or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)


def as_text(value: Any) -> str:
    """A known value as the text that the graph sees."""
    if is_missing(value):
        return MISSING_TEXT
    if isinstance(value, str):
        return value
    number = value.item() if hasattr(value, "item") else value
    if (isinstance(number, bool | float) and number != int(number)) or isinstance(number, bytes):
        raise ConversionError(
            f"a text column has the category {value!r}, which is not text",
            hint="train with columns that hold either text or numbers",
        )
    return number if isinstance(number, str) else str(int(number))


def _text_index(ops: Ops, column: Column, known: Sequence[Any]) -> str:
    import numpy as np

    keys = [as_text(value) for value in known]
    if len(set(keys)) < len(keys):
        double = next(key for key in keys if keys.count(key) > 1)
        raise ConversionError(
            f"{type(ops.model).__name__} tells two values apart that are the same text {double!r} to the ONNX model",
            hint="train with one kind of missing value, and with no empty text beside it",
        )
    return ops.add(
        "LabelEncoder",
        column.name,
        domain=ML,
        keys_strings=keys,
        values_int64s=list(range(len(keys))),
        default_int64=np.int64(len(keys)),
    )


def _number_index(ops: Ops, column: Column, known: Sequence[Any]) -> str:
    import numpy as np

    missing = [is_missing(value) for value in known]
    if any(isinstance(value, str) for value in known):
        raise ConversionError(
            f"{type(ops.model).__name__} has learnt text in a column that holds numbers here",
            hint="give a sample whose columns hold what the model was trained on",
        )
    numbers = np.array([0.0 if gone else float(value) for value, gone in zip(known, missing, strict=True)])
    whole = column.kind == "whole" and bool(np.all(numbers == np.floor(numbers))) and not any(missing)
    values = np.array([int(value) for value in known], dtype=np.int64) if whole else numbers
    name = column.name if whole or column.kind == "number" else ops.cast(column.name)
    equal = ops.cast(ops.add("Equal", name, values[None, :]))
    if any(missing):
        nan = ops.cast(ops.add("IsNaN", name))
        flags = np.array(missing, dtype=float)[None, :]
        # NaN equals nothing, and its substitute among the numbers does not match.
        equal = ops.add("Add", ops.add("Mul", equal, 1.0 - flags), ops.add("Mul", nan, flags))
    none = ops.add("Sub", 0.5, ops.add("Mul", ops.add("ReduceMax", equal, [1], keepdims=1), 0.25))
    return ops.first_maximum(ops.add("Concat", equal, none, axis=1))
