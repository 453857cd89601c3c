"""Nearest centroid: skl2onnx has no converter for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores, distances
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def nearest_centroid(ops: Ops) -> None:
    """The class whose centroid is nearest; where priors count, the one with the largest discriminant score."""
    model, x = ops.model, ops.matrix()
    prior = getattr(model, "class_prior_", None)  # since scikit-learn 1.6
    even = prior is None or bool(np.isclose(prior, 1.0 / len(model.classes_)).all())
    nearness = ops.add("Neg", distances.distance(ops, x, model.centroids_, model.metric, {})) if even else ""
    if prior is None or not hasattr(model, "predict_proba"):
        label = ops.class_of(ops.first_maximum(nearness if even else _discriminant(ops, x)))
        ops.answer(0, label)
        ops.answer(1, nearness if even else _discriminant(ops, x))
        return
    scores = _discriminant(ops, x)
    one_sided = class_scores.one_sided(ops, scores) if len(model.classes_) == 2 else scores
    label = ops.class_of(ops.first_maximum(nearness if even else scores))
    class_scores.answer_classifier(ops, label, class_scores.from_log_joint(ops, scores), one_sided)


def _discriminant(ops: Ops, x: str) -> str:
    """Minus the squared distances in units of the spread within classes, plus twice the log prior."""
    model = ops.model
    spread = np.asarray(model.within_class_std_dev_, dtype=np.float64)
    scale = 1.0 / np.where(spread == 0, 1.0, spread)
    away = distances.distance(ops, ops.add("Mul", x, scale), model.centroids_ * scale, model.metric, {})
    return ops.add("Sub", 2.0 * np.log(model.class_prior_), ops.add("Mul", away, away))


def _extra(model: Any) -> tuple[str, ...]:
    return class_scores.has_both(model)


RECIPES = (Recipe(("sklearn.neighbors.NearestCentroid",), "classifier", nearest_centroid, extra=_extra),)
