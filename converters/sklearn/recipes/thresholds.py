"""Classifiers with a threshold of their own; skl2onnx ignores a tuned one (sklearn-onnx #1100, #1225)."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores, inner_estimators
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe

SLACK = 1e-12


def fixed(ops: Ops) -> None:
    """The threshold that the user gave; by default the middle."""
    model = ops.model
    _answer(ops, getattr(model, "estimator_", model.estimator), model.threshold, model.pos_label)


def tuned(ops: Ops) -> None:
    """The threshold that cross-validation found."""
    model = ops.model
    _answer(ops, model.estimator_, model.best_threshold_, model._curve_scorer._get_pos_label())


def _answer(ops: Ops, estimator: Any, threshold: Any, pos_label: Any) -> None:
    model = ops.model
    wanted = model._get_response_method()
    wanted = [wanted] if isinstance(wanted, str) else wanted
    method = next(name for name in wanted if hasattr(estimator, name))
    answers = ops.methods(estimator)
    scores = inner_estimators.column(ops, inner_estimators.pick(answers, estimator, method))
    score = inner_estimators.of_class(ops, estimator, method, scores, pos_label)
    if isinstance(threshold, str):
        threshold = 0.5 if method == "predict_proba" else 0.0
    # A tuned threshold is the score of a training row, which has to stay on its side when sums round otherwise.
    least = float(threshold) - SLACK * abs(float(threshold))
    chosen = class_scores.above(ops, score, least, inclusive=True)
    known = model.classes_
    if pos_label is not None:
        order = [int(np.flatnonzero(known != pos_label)[0]), int(np.flatnonzero(known == pos_label)[0])]
        chosen = ops.add("Gather", np.array(order), chosen, axis=0)
    ops.answer(0, ops.class_of(chosen))
    first = "predict_proba" if hasattr(model, "predict_proba") else method
    ops.answer(1, inner_estimators.column(ops, inner_estimators.pick(answers, estimator, first)))
    if ops.wants("decision_function"):
        ops.answer_method(
            "decision_function",
            inner_estimators.column(ops, inner_estimators.pick(answers, estimator, "decision_function")),
        )


_MODULE = "sklearn.model_selection."

RECIPES = (
    Recipe((_MODULE + "FixedThresholdClassifier",), "classifier", fixed, extra=class_scores.has_both),
    Recipe((_MODULE + "TunedThresholdClassifierCV",), "classifier", tuned, extra=class_scores.has_both),
)
