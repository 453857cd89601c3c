"""Stacking: the parts' answers, and the inputs beside them with ``passthrough``, feed the last estimator."""

from __future__ import annotations

from typing import Any

from converters.sklearn.recipes.writing import class_scores, inner_estimators
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError


def classifier(ops: Ops) -> None:
    """What the last estimator answers; its classes are the numbers of the model's."""
    from onnx import TensorProto

    model = ops.model
    if isinstance(model.classes_, list):
        raise ConversionError(
            "a stacking classifier of several targets has no ONNX form", hint="train a model for each target"
        )
    features = _features(ops)
    ops.answer_method("transform", features)
    answers = ops.methods(model.final_estimator_, features)
    number = ops.reshape(ops.cast(answers["predict"], int(TensorProto.INT64)), [-1])
    ops.answer(0, ops.class_of(number))
    first = "predict_proba" if "predict_proba" in answers else "decision_function"
    ops.answer(1, inner_estimators.column(ops, inner_estimators.pick(answers, model.final_estimator_, first)))
    if ops.wants("decision_function"):
        scores = inner_estimators.pick(answers, model.final_estimator_, "decision_function")
        ops.answer_method("decision_function", inner_estimators.column(ops, scores))


def regressor(ops: Ops) -> None:
    """What the last estimator predicts."""
    features = _features(ops)
    ops.answer_method("transform", features)
    ops.answer(0, inner_estimators.predicted(ops, ops.model.final_estimator_, features))


def _features(ops: Ops) -> str:
    model = ops.model
    features = []
    for estimator, method in zip(model.estimators_, model.stack_method_, strict=True):
        answer = inner_estimators.column(ops, inner_estimators.pick(ops.methods(estimator), estimator, method))
        # Of two probabilities that add up to 1, only the second is passed on.
        binary = method == "predict_proba" and len(model.classes_) == 2
        features.append(ops.columns(answer, [1]) if binary else answer)
    if model.passthrough:
        features.append(ops.matrix())
    return ops.add("Concat", *features, axis=1)


def _extra(model: Any) -> tuple[str, ...]:
    return (*class_scores.has_both(model), "transform")


RECIPES = (
    Recipe(("sklearn.ensemble.StackingClassifier",), "classifier", classifier, extra=_extra),
    Recipe(("sklearn.ensemble.StackingRegressor",), "regressor", regressor, extra=lambda model: ("transform",)),
)
