"""Predictions of the nearest training rows, in double, and of integer data too.

Of training rows that are equally far, the first is taken; scikit-learn takes that which its search met first. Models
for which that can make a difference are refused, see ``ties``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes import ties
from converters.sklearn.recipes.writing import class_scores, distances
from converters.sklearn.recipes.writing.ops import Ops, classes
from converters.sklearn.recipes.writing.registry import Kind, Recipe
from edgepack.errors import ConversionError


def all_distances(ops: Ops, x: str, model: Any) -> str:
    """Distances to every training row of a fitted neighbours' search, shape (rows, training rows)."""
    if model.effective_metric_ == "precomputed":
        return x
    return distances.distance(ops, x, model._fit_X, model.effective_metric_, model.effective_metric_params_ or {})


def nearest(ops: Ops, x: str, model: Any, count: int) -> tuple[str, str]:
    """Distances and numbers of the ``count`` nearest training rows, nearest first, both of shape (rows, count)."""
    # Ordered by the squares, as the original orders: roots of different numbers may be equal.
    by_squares = model.effective_metric_ in ("euclidean", "l2")
    found = distances.squared(ops, x, _points(model)) if by_squares else all_distances(ops, x, model)
    amount = np.array([count], dtype=np.int64)
    away, index = ops.add_many("TopK", found, amount, outputs=2, axis=1, largest=0, sorted=1)
    return (ops.add("Sqrt", away) if by_squares else away), index


def refuse_ties(model: Any, count: int, targets: Any) -> None:
    """Raise ``ConversionError`` where training rows that are equally far change what the ``count`` nearest give."""
    if model.effective_metric_ == "precomputed":
        return
    points, metric, given = _points(model), model.effective_metric_, model.effective_metric_params_ or {}
    summed = {"euclidean": np.square, "l2": np.square, "manhattan": np.abs, "l1": np.abs, "cityblock": np.abs}
    # This tree adds up as the graph does, and finds the same distances equal; others go by shorter sums or by bounds.
    near = 0.0 if model._fit_method == "kd_tree" and metric in summed else ties.NEAR

    def away(rows: Any) -> Any:
        from sklearn.metrics import pairwise_distances

        if metric not in summed:
            return pairwise_distances(rows, points, metric=metric, **given)
        total = np.zeros((len(rows), len(points)))
        for column in range(points.shape[1]):
            total += summed[metric](rows[:, [column]] - points[None, :, column])
        return total

    ties.refuse(type(model).__name__, points, targets, count, away, near)


def _points(model: Any) -> Any:
    points = model._fit_X
    return np.asarray(points.toarray() if hasattr(points, "toarray") else points, dtype=np.float64)


def k_classifier(ops: Ops) -> None:
    """The share of each class among the nearest, weighted."""
    model = ops.model
    away, index = nearest(ops, ops.matrix(), model, model.n_neighbors)
    weights = _weights(ops, model, away)
    refuse_ties(model, model.n_neighbors, model._y)

    def shares(codes: Any, count: int) -> str:
        votes = ops.add("Gather", np.eye(count)[codes], index, axis=0)
        if weights is not None:
            votes = ops.add("Mul", votes, ops.add("Unsqueeze", weights, [2]))
        return class_scores.shares(ops, ops.sum(votes, 1), count)

    _answer_classes(ops, shares)


def radius_classifier(ops: Ops) -> None:
    """The share of each class among those within the radius; a row without any gets the label for outliers."""
    model = ops.model
    near, counted = _within(ops, ops.matrix(), model)
    empty = ops.add("Equal", counted, np.float64(0.0))
    outliers = model.outlier_label_ or [None] * (len(model.classes_) if isinstance(model.classes_, list) else 1)

    def votes(codes: Any, known: Any, outlier: Any) -> str:
        found = ops.add("MatMul", near, np.eye(len(known))[codes])
        stand_in = (np.asarray(known) == outlier).astype(np.float64)[None]
        return class_scores.shares(
            ops, ops.add("Where", empty, stand_in, found), len(known) if stand_in.any() else None
        )

    if isinstance(model.classes_, list):
        _refuse_several("RadiusNeighborsClassifier")
    found = votes(np.ravel(model._y), model.classes_, outliers[0])
    known = classes(model)
    chosen = ops.first_maximum(found)
    if outliers[0] is not None and outliers[0] not in list(model.classes_):
        # An outlier's label that is not a class: its probabilities are all 0.
        found = ops.add("Where", empty, np.float64(0.0), found)
        known = np.append(known, np.asarray([outliers[0]]).astype(known.dtype))
        chosen = ops.add("Where", ops.reshape(empty, [-1]), ops.constant(len(known) - 1), ops.first_maximum(found))
    ops.answer(0, ops.add("Gather", ops.constant(known), chosen, axis=0))
    ops.answer(1, found)


def k_regressor(ops: Ops) -> None:
    """The weighted mean of the nearest rows' targets."""
    model = ops.model
    away, index = nearest(ops, ops.matrix(), model, model.n_neighbors)
    values = ops.add("Gather", _targets(model), index, axis=0)
    weights = _weights(ops, model, away)
    refuse_ties(model, model.n_neighbors, _targets(model))
    if weights is None:
        ops.answer(0, ops.add("ReduceMean", values, [1], keepdims=0))
        return
    total = ops.sum(ops.add("Mul", values, ops.add("Unsqueeze", weights, [2])), 1)
    ops.answer(0, ops.add("Div", total, ops.sum(weights, 1, keepdims=True)))


def radius_regressor(ops: Ops) -> None:
    """The weighted mean of the targets within the radius; NaN where there are none."""
    near, _ = _within(ops, ops.matrix(), ops.model)
    total = ops.add("MatMul", near, _targets(ops.model))
    ops.answer(0, ops.add("Div", total, ops.sum(near, 1, keepdims=True)))


def local_outlier_factor(ops: Ops) -> None:
    """How much thinner a row's surroundings are than its neighbours'; for new rows (``novelty=True``)."""
    model = ops.model
    away, index = nearest(ops, ops.matrix(), model, model.n_neighbors_)
    reach = np.asarray(model._distances_fit_X_[:, model.n_neighbors_ - 1], dtype=np.float64)
    refuse_ties(model, model.n_neighbors_, np.column_stack([reach, model._lrd]))
    reached = ops.add("Max", away, ops.add("Gather", reach, index, axis=0))
    mean = ops.add("ReduceMean", reached, [1], keepdims=1)
    density = ops.add("Div", np.float64(1.0), ops.add("Add", mean, np.float64(1e-10)))
    ratios = ops.add("Div", ops.add("Gather", np.asarray(model._lrd, dtype=np.float64), index, axis=0), density)
    samples = ops.add("Neg", ops.add("ReduceMean", ratios, [1], keepdims=1))
    scores = ops.add("Sub", samples, np.float64(model.offset_))
    # Label 1 is given on zero, where the other outlier detectors differ.
    outside = ops.add("Less", scores, np.float64(0.0))
    ops.answer(0, ops.reshape(ops.add("Where", outside, ops.constant(-1), ops.constant(1)), [-1]))
    ops.answer(1, scores)
    ops.answer_method("score_samples", samples)


def _weights(ops: Ops, model: Any, away: str) -> str | None:
    """Weights of distances, one over each; where some are 0, only those count."""
    if model.weights in (None, "uniform"):
        return None
    if model.weights != "distance":
        raise ConversionError(
            "neighbours weighted by a Python function have no ONNX form", hint="use weights='uniform' or 'distance'"
        )
    inverse = ops.add("Div", np.float64(1.0), away)
    there = ops.cast(ops.add("IsInf", inverse))
    any_there = ops.add("Greater", ops.add("ReduceMax", there, [1], keepdims=1), np.float64(0.0))
    return ops.add("Where", any_there, there, inverse)


def _within(ops: Ops, x: str, model: Any) -> tuple[str, str]:
    """Weights of all training rows, 0 beyond the radius, and how many are within, shape (rows, 1)."""
    away = all_distances(ops, x, model)
    inside = ops.add("LessOrEqual", away, np.float64(model.radius))
    flags = ops.cast(inside)
    weights = _weights(ops, model, away)
    near = flags if weights is None else ops.add("Where", inside, weights, np.float64(0.0))
    return near, ops.sum(flags, 1, keepdims=True)


def _answer_classes(ops: Ops, shares: Any) -> None:
    model = ops.model
    if not isinstance(model.classes_, list):
        found = shares(np.ravel(model._y), len(model.classes_))
        ops.answer(0, ops.class_of(ops.first_maximum(found)))
        ops.answer(1, found)
        return
    labels = []
    for number, known in enumerate(model.classes_):
        found = shares(model._y[:, number], len(known))
        table = known if known.dtype.kind in "OUS" else known.astype(np.int64)
        label = ops.add("Gather", ops.constant(table), ops.first_maximum(found), axis=0)
        labels.append(ops.add("Unsqueeze", label, [1]))
        ops.answer_method(f"predict_proba_{number}", found)
    ops.answer(0, ops.add("Concat", *labels, axis=1))


def _targets(model: Any) -> Any:
    values = np.asarray(model._y, dtype=np.float64)
    return values.reshape(len(values), -1)


def _refuse_several(name: str) -> None:
    raise ConversionError(f"a {name} of several targets has no ONNX form", hint="train a model for each target")


def _kind(model: Any) -> Kind:
    return "multilabel" if isinstance(model.classes_, list) else "classifier"


def _extra(model: Any) -> tuple[str, ...]:
    several = isinstance(model.classes_, list)
    return tuple(f"predict_proba_{number}" for number in range(len(model.classes_))) if several else ()


def _width(model: Any) -> int:
    return 1 if model._y.ndim == 1 else int(model._y.shape[1])


_MODULE = "sklearn.neighbors."

RECIPES = (
    Recipe((_MODULE + "KNeighborsClassifier",), _kind, k_classifier, extra=_extra),
    Recipe((_MODULE + "KNeighborsRegressor",), "regressor", k_regressor, width=_width),
    Recipe((_MODULE + "RadiusNeighborsClassifier",), _kind, radius_classifier, extra=_extra),
    Recipe((_MODULE + "RadiusNeighborsRegressor",), "regressor", radius_regressor, width=_width),
    Recipe((_MODULE + "LocalOutlierFactor",), "outlier", local_outlier_factor, extra=lambda model: ("score_samples",)),
)
