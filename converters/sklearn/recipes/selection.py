"""Feature selection: skl2onnx has no SequentialFeatureSelector, of RFE the transform alone, and no empty choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores
from converters.sklearn.recipes.writing.ops import Ops, is_any_classifier
from converters.sklearn.recipes.writing.registry import Kind, Recipe
from edgepack.errors import ConversionError


def selected(ops: Ops, model: Any) -> str:
    """The columns of the input that a selector keeps."""
    kept = np.flatnonzero(model.get_support()).tolist()
    if not kept:
        raise ConversionError(f"{type(model).__name__} keeps no column", hint="let it select at least one")
    return ops.columns(ops.matrix(), kept)


def selector(ops: Ops) -> None:
    """The chosen columns."""
    ops.answer(0, selected(ops, ops.model))


def recursive_elimination(ops: Ops) -> None:
    """What the estimator inside answers of the chosen columns; as a step before the last one see ``compose``."""
    model = ops.model
    kept = selected(ops, model)
    answers = ops.methods(model.estimator_, kept)
    ops.answer_method("transform", kept)
    ops.answer(0, answers["predict"])
    if _kind(model) == "classifier":
        scores = answers.get("predict_proba") or answers.get("decision_function")
        if scores is None:
            raise ConversionError(
                f"{type(model).__name__} of a {type(model.estimator_).__name__} answers with classes alone",
                hint="use an estimator that has predict_proba or decision_function",
            )
        ops.answer(1, scores)
        if "decision_function" in answers:
            ops.answer_method("decision_function", answers["decision_function"])


def _kind(model: Any) -> Kind:
    return "classifier" if is_any_classifier(model.estimator_) else "regressor"


def _extra(model: Any) -> tuple[str, ...]:
    return (*(class_scores.has_both(model) if _kind(model) == "classifier" else ()), "transform")


_MODULE = "sklearn.feature_selection."

RECIPES = (
    Recipe(
        tuple(
            _MODULE + name
            for name in (
                "GenericUnivariateSelect",
                "SelectFdr",
                "SelectFpr",
                "SelectFromModel",
                "SelectFwe",
                "SelectKBest",
                "SelectPercentile",
                "SequentialFeatureSelector",
                "VarianceThreshold",
            )
        ),
        "transformer",
        selector,
        width=lambda model: int(model.get_support().sum()),
    ),
    Recipe((_MODULE + "RFE", _MODULE + "RFECV"), _kind, recursive_elimination, extra=_extra),
)
