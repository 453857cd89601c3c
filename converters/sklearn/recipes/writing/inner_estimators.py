"""Predictors as parts of others: which of their methods a wrapper asks for, and in which shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.ops import Ops, is_any_classifier
from edgepack.errors import ConversionError


def response(ops: Ops, estimator: Any, wanted: str | Sequence[str], x: str | None = None) -> tuple[str, str]:
    """The first of the methods ``wanted`` that the part has, and its answer, of shape (rows, columns).

    A binary decision function has one column. Fed as ``Ops.methods`` says. Raises ``ConversionError`` where the part
    has such a method and its converter does not answer it.
    """
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    method = next((name for name in names if hasattr(estimator, name)), names[-1])
    return method, column(ops, pick(ops.methods(estimator, x), estimator, method))


def pick(answers: Mapping[str, str], estimator: Any, method: str) -> str:
    """One of a part's answers. Raises ``ConversionError`` where its converter does not give it."""
    if method not in answers:
        raise ConversionError(
            f"the converter of {type(estimator).__name__} does not answer {method}, which the model is built on",
            hint="use another estimator inside of it",
        )
    return answers[method]


def column(ops: Ops, name: str, width: int = -1) -> str:
    """A tensor of shape (rows,) or (rows, columns) as (rows, columns), of the type of the arithmetic."""
    rows = ops.add("Shape", ops.operator.inputs[0].full_name, start=0, end=1)
    shape = ops.add("Concat", rows, np.array([width]), axis=0)
    return ops.add("Reshape", ops.cast(name), shape)


def predicted(ops: Ops, estimator: Any, x: str | None = None) -> str:
    """A regressor's values, or a classifier's classes that are numbers, shape (rows, targets)."""
    return column(ops, ops.methods(estimator, x)["predict"])


def threshold(estimator: Any) -> float:
    """Above which a binary part's score means its second class: ``_threshold_for_binary_predict``."""
    return 0.0 if hasattr(estimator, "decision_function") and is_any_classifier(estimator) else 0.5


def of_class(ops: Ops, estimator: Any, method: str, scores: str, pos_label: Any) -> str:
    """Binary scores seen from ``pos_label``, by default the second class, shape (rows, 1)."""
    first = pos_label is not None and estimator.classes_[0] == pos_label
    if method == "predict_proba":
        return ops.columns(scores, [0 if first else 1])
    return ops.add("Neg", scores) if first else scores
