"""Pipelines, unions and column transformers, read step by step by us.

skl2onnx takes a step's first output for its transform, which of a clusterer or of an eliminating selector is its
prediction; fails on 'passthrough' and 'drop' in a pipeline or a union; reorders columns of several inputs; turns
numbers into text where a transformer other than its own two encoders takes both; and calculates with whole numbers in
float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from converters.routes import passes_on
from converters.sklearn.recipes.clustering import centre_distances
from converters.sklearn.recipes.decomposition import linear
from converters.sklearn.recipes.selection import selected
from converters.sklearn.recipes.writing.ops import Ops, is_any_classifier
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError

# Transformers that take each column for itself, whatever it holds.
_BY_COLUMN = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder", "MissingIndicator")


class TransformOf:
    """The ``transform``, as an estimator, of a fitted one that skl2onnx takes for a predictor."""

    def __init__(self, of: Any) -> None:
        self.of = of
        self.n_features_in_ = getattr(of, "n_features_in_", None)


def transform_of(ops: Ops) -> None:
    """What the estimator makes of a row where it is not the last step."""
    model = ops.model.of
    ops.answer(0, _TRANSFORMS[type(model).__name__](ops, model))


def _distances(ops: Ops, model: Any) -> str:
    centres = model.subcluster_centers_ if hasattr(model, "subcluster_centers_") else model.cluster_centers_
    return centre_distances(ops, ops.matrix(), centres)


def _discriminants(ops: Ops, model: Any) -> str:
    if model.solver == "lsqr":
        raise ConversionError("LinearDiscriminantAnalysis(solver='lsqr') cannot transform", hint="use solver='svd'")
    scalings = np.asarray(model.scalings_)[:, : model._max_components]
    return linear(ops, ops.matrix(), model.xbar_ if model.solver == "svd" else None, scalings)


_TRANSFORMS: dict[str, Callable[[Ops, Any], str]] = {
    "Birch": _distances,
    "BisectingKMeans": _distances,
    "KMeans": _distances,
    "LinearDiscriminantAnalysis": _discriminants,
    "MiniBatchKMeans": _distances,
    "RFE": selected,
    "RFECV": selected,
}


def _width_of(model: Any) -> int | None:
    inner = model.of
    if hasattr(inner, "get_support"):
        return int(inner.get_support().sum())
    return None


def parse_pipeline(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """All steps but the last by their transforms, the last by whatever it answers."""
    from skl2onnx._parse import _parse_sklearn

    steps = [step for _, step in model.steps]
    for step in steps[:-1]:
        inputs = _transformed(scope, step, inputs, custom_parsers)
    last = steps[-1]
    if passes_on(last):
        return inputs
    options = scope.options or {}
    if is_any_classifier(last) and id(last) not in options and type(last) not in options:
        scope.add_options(id(last), scope.get_options(model, {"zipmap": True}))
    return _parse_sklearn(scope, last, inputs, custom_parsers=custom_parsers)


def parse_union(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """The parts' outputs side by side, weighted."""
    weights = model.transformer_weights or {}
    blocks = []
    for name, part in model.transformer_list:
        if isinstance(part, str) and part == "drop":
            continue
        found = _transformed(scope, part, inputs, custom_parsers)
        blocks.append(_weighted(scope, _merged(scope, found), weights.get(name)))
    return [_merged(scope, blocks)]


def parse_columns(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Each part fed by its own columns, in its own order; their outputs side by side, weighted."""
    weights = model.transformer_weights or {}
    columns = _flat(inputs, int(model.n_features_in_))
    blocks = []
    for name, part, _ in model.transformers_:
        indices = list(model._transformer_to_input_indices.get(name, ()))
        if (isinstance(part, str) and part == "drop") or not indices:
            continue
        fed = _sliced(scope, [columns[int(index)] for index in indices])
        if not passes_on(part):
            fed = _fitting(scope, part, fed)
        found = _transformed(scope, part, fed, custom_parsers)
        blocks.append(_weighted(scope, _merged(scope, found), weights.get(name)))
    if not blocks:
        raise ConversionError("the ColumnTransformer drops every column", hint="give it columns to keep")
    return [_merged(scope, blocks)]


def _transformed(scope: Any, step: Any, inputs: Any, custom_parsers: Any) -> Any:
    """The variables of a step's transform."""
    from skl2onnx._parse import _parse_sklearn

    step = _unwrapped(step)
    if passes_on(step):
        return inputs
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            inputs = _transformed(scope, inner, inputs, custom_parsers)
        return inputs
    kind = type(step).__name__
    if kind in _TRANSFORMS:
        step = TransformOf(step)
    elif hasattr(step, "predict") and kind != "IsotonicRegression":  # whose transform is its prediction
        raise ConversionError(
            f"the transform of a {kind} is not converted where it is a step before the last",
            hint="do that step before the model, or use another estimator",
        )
    return _parse_sklearn(scope, step, inputs, custom_parsers=custom_parsers)[:1]


def _unwrapped(step: Any) -> Any:
    """The estimator that answers for a search or a frozen one."""
    while hasattr(step, "best_estimator_") or type(step).__name__ == "FrozenEstimator":
        step = step.best_estimator_ if hasattr(step, "best_estimator_") else step.estimator
    return step


def _flat(inputs: Sequence[Any], width: int) -> list[tuple[Any, int]]:
    """For every column of the inputs its variable and its place in it."""
    if len(inputs) == 1:
        return [(inputs[0], index) for index in range(width)]
    flat = []
    for variable in inputs:
        count = variable.type.shape[1] if len(variable.type.shape) > 1 else 1
        if not isinstance(count, int):
            raise ConversionError("the width of a ColumnTransformer's input is not known", hint="put it first")
        flat += [(variable, index) for index in range(count)]
    return flat


def _sliced(scope: Any, columns: Sequence[tuple[Any, int]]) -> list[Any]:
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


def _fitting(scope: Any, part: Any, fed: list[Any]) -> list[Any]:
    """Side by side as one matrix of numbers, unless the part takes each column for itself, or text."""
    from skl2onnx._parse import _parse_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
    from skl2onnx.sklapi import CastTransformer

    first = part
    while hasattr(first, "steps"):
        steps = [step for _, step in first.steps if not passes_on(step)]
        if not steps:
            return fed
        first = steps[0]
    texts = [isinstance(variable.type, StringTensorType) for variable in fed]
    if type(first).__name__ in _BY_COLUMN or hasattr(first, "transformers_") or hasattr(first, "transformer_list"):
        return fed
    if all(texts):
        return [_merged(scope, fed)]
    if any(texts):
        raise ConversionError(
            f"a {type(first).__name__} takes columns of text and of numbers at once",
            hint="give text and numbers a transformer each",
        )
    single = any(isinstance(variable.type, FloatTensorType) for variable in fed)
    wanted, dtype = (FloatTensorType, np.float32) if single else (DoubleTensorType, np.float64)
    numbers = []
    for variable in fed:
        if not isinstance(variable.type, wanted | FloatTensorType):
            variable = _parse_sklearn(scope, CastTransformer(dtype=dtype), [variable])[0]
            variable.type = wanted([None, None])
        numbers.append(variable)
    return [_merged(scope, numbers)]


def _merged(scope: Any, variables: Sequence[Any]) -> Any:
    if len(variables) == 1:
        return variables[0]
    operator = scope.declare_local_operator("SklearnConcat")
    operator.inputs = list(variables)
    operator.outputs.append(scope.declare_local_variable("merged", type(variables[0].type)([None, None])))
    return operator.outputs[0]


def _weighted(scope: Any, variable: Any, weight: float | None) -> Any:
    if weight is None:
        return variable
    from skl2onnx._parse import _parse_sklearn

    return _parse_sklearn(scope, Scaled(float(weight)), [variable])[0]


class Scaled:
    """The weight, as an estimator, that a union or a column transformer gives to a part."""

    def __init__(self, factor: float) -> None:
        self.factor = factor


def scaled(ops: Ops) -> None:
    """The part's output times its weight."""
    ops.answer(0, ops.add("Mul", ops.matrix(), ops.model.factor))


RECIPES = (
    Recipe((f"{__name__}.TransformOf",), "transformer", transform_of, width=_width_of),
    Recipe((f"{__name__}.Scaled",), "transformer", scaled, width=lambda model: None),
    Recipe(
        ("sklearn.pipeline.Pipeline", "imblearn.pipeline.Pipeline", "feature_engine.pipeline.pipeline.Pipeline"),
        "transformer",
        scaled,
        parser=parse_pipeline,
    ),
    Recipe(("sklearn.pipeline.FeatureUnion",), "transformer", scaled, parser=parse_union),
    Recipe(
        (
            "sklearn.compose.ColumnTransformer",
            "converters.boosters.typed_columns.TypedColumns",
            "converters.boosters.hashed_categories.HashedColumns",
        ),
        "transformer",
        scaled,
        parser=parse_columns,
    ),
)
