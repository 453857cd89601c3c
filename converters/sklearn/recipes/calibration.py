"""Calibrated classifiers: skl2onnx rounds isotonic steps wrongly (#1151) and takes no pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes import isotonic
from converters.sklearn.recipes.writing import class_scores, inner_estimators
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe

# What scikit-learn takes for rounding, above 1.
SLACK = 1e-5
# What it adds to probabilities before it takes their logarithms: ``_convert_to_logits``.
TINY = 1e-12


def calibrated(ops: Ops) -> None:
    """The mean of what the calibrated parts answer."""
    model = ops.model
    found = [_one(ops, part) for part in model.calibrated_classifiers_]
    mean = ops.add("Div", class_scores.added(ops, found), np.float64(len(found)))
    ops.answer(0, ops.class_of(ops.first_maximum(mean)))
    ops.answer(1, mean)


def _one(ops: Ops, part: Any) -> str:
    estimator = part.estimator
    count = len(part.classes)
    method, scores = inner_estimators.response(ops, estimator, ("decision_function", "predict_proba"))
    if method == "predict_proba" and count == 2 and part.method != "temperature":
        scores = ops.columns(scores, [1])
    proba = _temperature(ops, part, scores) if part.method == "temperature" else _by_class(ops, part, scores)
    high = ops.add(
        "And", ops.add("Greater", proba, np.float64(1.0)), ops.add("LessOrEqual", proba, np.float64(1.0 + SLACK))
    )
    return ops.add("Where", high, np.float64(1.0), proba)


def _by_class(ops: Ops, part: Any, scores: str) -> str:
    """A calibrator for each class, or the one for the second of two."""
    count = len(part.classes)
    where = {int(np.flatnonzero(part.classes == known)[0]): n for n, known in enumerate(part.estimator.classes_)}
    if count == 2:
        return class_scores.both(ops, _calibrate(ops, part.calibrators[0], scores))
    columns = []
    for number in range(count):
        if number in where and where[number] < len(part.calibrators):
            score = ops.columns(scores, [where[number]])
            columns.append(_calibrate(ops, part.calibrators[where[number]], score))
        else:  # a class that is not in this fold
            columns.append(ops.for_each_row(np.zeros((1, 1))))
    return class_scores.shares(ops, ops.add("Concat", *columns, axis=1), count)


def _calibrate(ops: Ops, calibrator: Any, score: str) -> str:
    if hasattr(calibrator, "a_"):
        line = ops.add("Add", ops.add("Mul", score, np.float64(calibrator.a_)), np.float64(calibrator.b_))
        return ops.sigmoid(ops.add("Neg", line))
    return isotonic.interpolate(ops, score, calibrator)


def _temperature(ops: Ops, part: Any, scores: str) -> str:
    """Softmax of the scores by a common factor; of probabilities, their logarithms."""
    estimator = part.estimator
    if hasattr(estimator, "decision_function"):
        binary = len(estimator.classes_) == 2
        logits = ops.add("Concat", ops.add("Neg", scores), scores, axis=1) if binary else scores
    else:
        logits = ops.add("Log", ops.add("Add", scores, np.float64(TINY)))
    return class_scores.softmax(ops, ops.add("Mul", logits, np.float64(part.calibrators[0].beta_)))


RECIPES = (Recipe(("sklearn.calibration.CalibratedClassifierCV",), "classifier", calibrated),)
