"""From scores to classes and probabilities, as scikit-learn's classifiers go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.ops import Ops


def is_binary(model: Any) -> bool:
    """Whether a classifier has at most two classes, so that one score serves for both."""
    return len(model.classes_) <= 2


def above(ops: Ops, scores: str, threshold: float = 0.0, *, inclusive: bool = False) -> str:
    """1 where a score of shape (rows, 1) is above the threshold, else 0, as int64 of shape (rows,)."""
    from onnx import TensorProto

    found = ops.add("GreaterOrEqual" if inclusive else "Greater", scores, np.float64(threshold))
    return ops.reshape(ops.cast(found, int(TensorProto.INT64)), [-1])


def choose(ops: Ops, scores: str) -> str:
    """The class that scores point at: of (rows, 1) by the sign where the model is binary, else the first maximum."""
    return ops.class_of(above(ops, scores) if is_binary(ops.model) else ops.first_maximum(scores))


def both(ops: Ops, positive: str) -> str:
    """Probabilities of both classes, from that of the second, of shape (rows, 1)."""
    return ops.add("Concat", ops.add("Sub", np.float64(1.0), positive), positive, axis=1)


def shares(ops: Ops, values: str, width: int | None = None) -> str:
    """Each row divided by its sum; with ``width`` columns given, even shares where all of a row are 0."""
    total = ops.sum(values, 1, keepdims=True)
    if width is not None:
        nothing = ops.add("Equal", total, np.float64(0.0))
        values = ops.add("Where", nothing, np.float64(1.0), values)
        total = ops.add("Where", nothing, np.float64(width), total)
    return ops.add("Div", values, total)


def softmax(ops: Ops, scores: str) -> str:
    """Each row's softmax."""
    return ops.add("Softmax", scores, axis=1)


def from_log_joint(ops: Ops, joint: str) -> str:
    """Probabilities from the logarithms of joint likelihoods; ``-inf`` is impossible."""
    norm = ops.add("ReduceLogSumExp", joint, [1], keepdims=1)
    return ops.add("Exp", ops.add("Sub", joint, norm))


def one_sided(ops: Ops, scores: str) -> str:
    """The second of two columns minus the first, shape (rows, 1)."""
    return ops.add("Sub", ops.columns(scores, [1]), ops.columns(scores, [0]))


def ovr_of_ovo(ops: Ops, second_wins: str, confidences: str, count: int) -> str:
    """One score a class from one a pair of classes: ``sklearn.utils.multiclass._ovr_decision_function``.

    ``second_wins`` is 1 where the pair's second class wins, else 0; ``confidences`` are those of the second class.
    Both have shape (rows, pairs).
    """
    pairs = [(first, second) for first in range(count) for second in range(first + 1, count)]
    signs, seconds, firsts = (np.zeros((len(pairs), count)) for _ in range(3))
    for number, (first, second) in enumerate(pairs):
        signs[number, first], signs[number, second] = -1.0, 1.0
        firsts[number, first] = seconds[number, second] = 1.0
    total = ops.add("MatMul", confidences, signs)
    first_wins = ops.add("Sub", np.float64(1.0), second_wins)
    votes = ops.add("Add", ops.add("MatMul", second_wins, seconds), ops.add("MatMul", first_wins, firsts))
    spread = ops.add("Mul", ops.add("Add", ops.add("Abs", total), np.float64(1.0)), np.float64(3.0))
    return ops.add("Add", votes, ops.add("Div", total, spread))


def answer_classifier(ops: Ops, label: str, proba: str | None, scores: str) -> None:
    """Give a classifier's answers: its label, its probabilities where it has any, and its decision function."""
    ops.answer(0, label)
    ops.answer(1, scores if proba is None else proba)
    ops.answer_method("decision_function", scores)


def added(ops: Ops, terms: Sequence[str]) -> str:
    """The sum of tensors of one shape, from the first to the last as scikit-learn adds."""
    total, *rest = terms
    for term in rest:
        total = ops.add("Add", total, term)
    return total


def has_both(model: Any) -> tuple[str, ...]:
    """The further method of a classifier that has both probabilities and a decision function."""
    has = hasattr(model, "predict_proba") and hasattr(model, "decision_function")
    return ("decision_function",) if has else ()
