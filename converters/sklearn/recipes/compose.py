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

from converters.companions.frame_steps import is_frame_step
from converters.routes import passes_on
from converters.sklearn.recipes import frames
from converters.sklearn.recipes.clustering import centre_distances
from converters.sklearn.recipes.decomposition import linear
from converters.sklearn.recipes.selection import selected
from converters.sklearn.recipes.writing.ops import Ops, is_any_classifier
from converters.sklearn.recipes.writing.registry import Recipe
from converters.sklearn.recipes.writing.variables import fitting, flat, merged, side_by_side, sliced
from edgepack.errors import ConversionError


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

    last = model.steps[-1][1]
    inputs = _through(scope, model.steps[:-1], inputs, custom_parsers, last)
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
        blocks.append(_weighted(scope, side_by_side(scope, found, f"{name} answers"), weights.get(name)))
    return [merged(scope, blocks)]


def parse_columns(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Each part fed by its own columns, in its own order; their outputs side by side, weighted."""
    weights = model.transformer_weights or {}
    columns = flat(inputs, int(model.n_features_in_))
    blocks = []
    for name, part, _ in model.transformers_:
        indices = list(model._transformer_to_input_indices.get(name, ()))
        if (isinstance(part, str) and part == "drop") or not indices:
            continue
        fed = sliced(scope, [columns[int(index)] for index in indices])
        if not passes_on(part):
            fed = fitting(scope, part, fed)
        found = _transformed(scope, part, fed, custom_parsers)
        joined = side_by_side(scope, found, f"{name} answers") if len(found) > 1 else found[0]
        blocks.append(_weighted(scope, joined, weights.get(name)))
    if not blocks:
        raise ConversionError("the ColumnTransformer drops every column", hint="give it columns to keep")
    return [merged(scope, blocks)]


def _through(scope: Any, steps: Sequence[tuple[str, Any]], inputs: Any, custom_parsers: Any, last: Any = None) -> Any:
    """The variables behind some steps, as ``last`` takes them.

    A step that gives a data frame gives each column by itself, which the next one takes side by side, or not.
    """
    framed = False
    for _, step in steps:
        if framed and not passes_on(step):
            inputs = fitting(scope, step, inputs)
        inputs = _transformed(scope, step, inputs, custom_parsers)
        framed = is_frame_step(step) or (framed and passes_on(step)) or (hasattr(step, "steps") and len(inputs) > 1)
    return fitting(scope, last, inputs) if framed and not passes_on(last) else inputs


def _transformed(scope: Any, step: Any, inputs: Any, custom_parsers: Any) -> Any:
    """The variables of a step's transform."""
    from skl2onnx._parse import _parse_sklearn

    step = _unwrapped(step)
    if passes_on(step):
        return inputs
    if hasattr(step, "steps"):
        return _through(scope, step.steps, inputs, custom_parsers)
    if is_frame_step(step):
        return frames.columns_of(scope, step, inputs)
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
