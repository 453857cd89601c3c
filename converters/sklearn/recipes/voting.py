"""Voting: skl2onnx refuses the classifier's default ``flatten_transform=True``."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores, inner_estimators
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def classifier(ops: Ops) -> None:
    """Soft: the mean of the probabilities. Hard: the class that most predict, the first of several."""
    model = ops.model
    votes, answers = [], []
    for estimator, weight in zip(model.estimators_, _weights(model), strict=True):
        if model.voting == "soft":
            vote = inner_estimators.response(ops, estimator, "predict_proba")[1]
            answers.append(vote)
        else:
            # The parts were fitted on the classes' numbers.
            predicted = inner_estimators.column(ops, ops.methods(estimator)["predict"], 1)
            answers.append(predicted)
            vote = ops.cast(ops.add("Equal", predicted, np.arange(len(model.classes_), dtype=np.float64)[None]))
        votes.append(vote if weight == 1.0 else ops.add("Mul", vote, np.float64(weight)))
    total = class_scores.added(ops, votes)
    if model.voting == "soft":
        total = ops.add("Div", total, np.float64(_weights(model).sum()))
    ops.answer(0, ops.class_of(ops.first_maximum(total)))
    joined = ops.add("Concat", *answers, axis=1)
    # Without probabilities, their place has all that a hard vote gives besides: each part's vote.
    ops.answer(1, total if model.voting == "soft" else joined)
    ops.answer_method("transform", joined)


def regressor(ops: Ops) -> None:
    """The mean of the predictions."""
    model = ops.model
    values = [inner_estimators.predicted(ops, estimator) for estimator in model.estimators_]
    weighted = [
        ops.add("Mul", value, np.float64(weight)) for value, weight in zip(values, _weights(model), strict=True)
    ]
    ops.answer(0, ops.add("Div", class_scores.added(ops, weighted), np.float64(_weights(model).sum())))
    if ops.wants("transform"):
        ops.answer_method("transform", ops.add("Concat", *values, axis=1))


def _weights(model: Any) -> Any:
    given = model._weights_not_none
    return np.ones(len(model.estimators_)) if given is None else np.asarray(given, dtype=np.float64)


def _extra(model: Any) -> tuple[str, ...]:
    return ("transform",) if model.voting == "soft" and model.flatten_transform else ()


RECIPES = (
    Recipe(("sklearn.ensemble.VotingClassifier",), "classifier", classifier, extra=_extra),
    Recipe(("sklearn.ensemble.VotingRegressor",), "regressor", regressor, extra=lambda model: ("transform",)),
)
