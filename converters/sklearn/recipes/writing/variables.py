"""skl2onnx's variables as columns: told apart, chosen from, and put side by side in the form that a part takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.companions.frame_steps import is_frame_step
from converters.routes import passes_on
from edgepack.errors import ConversionError

# Transformers that take each column for itself, whatever it holds.
_BY_COLUMN = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder", "MissingIndicator")


def flat(inputs: Sequence[Any], width: int) -> list[tuple[Any, int]]:
    """For every column of the inputs its variable and its place in it."""
    if len(inputs) == 1:
        return [(inputs[0], index) for index in range(width)]
    found = []
    for variable in inputs:
        count = variable.type.shape[1] if len(variable.type.shape) > 1 else 1
        if not isinstance(count, int):
            raise ConversionError("the width of a ColumnTransformer's input is not known", hint="put it first")
        found += [(variable, index) for index in range(count)]
    return found


def sliced(scope: Any, columns: Sequence[tuple[Any, int]]) -> list[Any]:
    """Variables that hold just these columns in this order, as few as can be."""
    runs: list[tuple[Any, list[int]]] = []
    for variable, index in columns:
        if runs and runs[-1][0] is variable:
            runs[-1][1].append(index)
        else:
            runs.append((variable, [index]))
    fed = []
    for variable, indices in runs:
        shape = variable.type.shape
        if len(shape) == 2 and indices == list(range(shape[1] if isinstance(shape[1], int) else -1)):
            fed.append(variable)
            continue
        operator = scope.declare_local_operator("SklearnArrayFeatureExtractor")
        operator.inputs, operator.column_indices = [variable], indices
        taken = scope.declare_local_variable("columns", type(variable.type)([None, len(indices)]))
        operator.outputs.append(taken)
        fed.append(taken)
    return fed


def fitting(scope: Any, part: Any, fed: list[Any]) -> list[Any]:
    """Side by side as one matrix of numbers, unless the part takes each column for itself, or text."""
    first = part
    while hasattr(first, "steps"):
        steps = [step for _, step in first.steps if not passes_on(step)]
        if not steps:
            return fed
        first = steps[0]
    if type(first).__name__ in _BY_COLUMN or hasattr(first, "transformers_") or hasattr(first, "transformer_list"):
        return fed
    if is_frame_step(first):
        return fed
    return [side_by_side(scope, fed, f"a {type(first).__name__} takes")]


def side_by_side(scope: Any, fed: Sequence[Any], told: str) -> Any:
    """One matrix of numbers, or of text; ``told`` begins the sentence that refuses columns of both."""
    from skl2onnx._parse import _parse_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
    from skl2onnx.sklapi import CastTransformer

    texts = [isinstance(variable.type, StringTensorType) for variable in fed]
    if all(texts):
        return merged(scope, fed)
    if any(texts):
        raise ConversionError(
            f"{told} columns of text and of numbers at once", hint="give text and numbers a transformer each"
        )
    single = any(isinstance(variable.type, FloatTensorType) for variable in fed)
    wanted, dtype = (FloatTensorType, np.float32) if single else (DoubleTensorType, np.float64)
    numbers = []
    for variable in fed:
        if not isinstance(variable.type, wanted | FloatTensorType):
            variable = _parse_sklearn(scope, CastTransformer(dtype=dtype), [variable])[0]
            variable.type = wanted([None, None])
        numbers.append(variable)
    return merged(scope, numbers)


def merged(scope: Any, variables: Sequence[Any]) -> Any:
    """One matrix of variables that are all of one type."""
    if len(variables) == 1:
        return variables[0]
    operator = scope.declare_local_operator("SklearnConcat")
    operator.inputs = list(variables)
    operator.outputs.append(scope.declare_local_variable("merged", type(variables[0].type)([None, None])))
    return operator.outputs[0]
