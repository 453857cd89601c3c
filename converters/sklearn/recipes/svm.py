"""Support vector machines by our own kernel arithmetic in double: ONNX's operators have float32 only.

skl2onnx's decision function of SVC has other values than scikit-learn's. Follows libsvm's ``svm.cpp``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores, kernels
from converters.sklearn.recipes.writing.body import Body
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError

# libsvm's bounds: the least probability of a pair, its rounds, and when it stops (divided by the classes).
LEAST = 1e-7
ROUNDS = 100
CLOSE = 0.005


def classifier(ops: Ops) -> None:
    """One decision for each pair of classes; the class with most votes, the first of several."""
    model = ops.model
    count = len(model.classes_)
    pairs = _pairs(ops)
    if count == 2:
        # libsvm's first class is positive, scikit-learn's second.
        scores = ops.add("Neg", pairs)
        label = ops.class_of(class_scores.above(ops, scores, inclusive=True))
    else:
        # scikit-learn takes a pair for lost below zero, libsvm unless it is above.
        lost = ops.cast(ops.add("Less", pairs, np.float64(0.0)))
        scores = pairs
        if model.decision_function_shape == "ovr":
            scores = class_scores.ovr_of_ovo(ops, lost, ops.add("Neg", pairs), count)
        label = ops.class_of(ops.first_maximum(scores if _breaks_ties(model) else _votes(ops, pairs, count)))
    proba = _probabilities(ops, pairs, count) if hasattr(model, "predict_proba") else None
    class_scores.answer_classifier(ops, label, proba, scores)


def regressor(ops: Ops) -> None:
    """A weighted sum of kernels."""
    ops.answer(0, _sum(ops))


def one_class(ops: Ops) -> None:
    """Inside (1) where the decision function is above zero, else outside (-1)."""
    scores = _sum(ops)
    inside = ops.add("Greater", scores, np.float64(0.0))
    ops.answer(0, ops.reshape(ops.add("Where", inside, ops.constant(1), ops.constant(-1)), [-1]))
    ops.answer(1, scores)
    offset = np.asarray(ops.model.offset_, dtype=np.float64).reshape(1)
    ops.answer_method("score_samples", ops.add("Add", scores, offset))


def _breaks_ties(model: Any) -> bool:
    return bool(model.break_ties and model.decision_function_shape == "ovr")


def _dense(values: Any) -> Any:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)


def _kernel(ops: Ops) -> str:
    """Kernels between rows and support vectors, shape (rows, support vectors)."""
    model, x = ops.model, ops.matrix()
    if callable(model.kernel):
        raise ConversionError(
            "a support vector machine with a kernel that is a Python function has no ONNX form",
            hint="use kernel='linear', 'poly', 'rbf' or 'sigmoid'",
        )
    if model.kernel == "precomputed":
        return ops.columns(x, np.asarray(model.support_).tolist())
    given = {"gamma": model._gamma, "degree": model.degree, "coef0": model.coef0}
    return kernels.pairwise(ops, x, _dense(model.support_vectors_), model.kernel, given)


def _sum(ops: Ops) -> str:
    product = ops.add("MatMul", _kernel(ops), _dense(ops.model._dual_coef_).T)
    return ops.add("Add", product, np.asarray(ops.model._intercept_, dtype=np.float64))


def _pairs(ops: Ops) -> str:
    """libsvm's decision values, of classes 0 and 1, 0 and 2, … 1 and 2, …: shape (rows, pairs).

    Those above zero are for the pair's first class.
    """
    model = ops.model
    dual, counts = _dense(model._dual_coef_), np.asarray(model._n_support)
    starts = np.concatenate([[0], np.cumsum(counts)])
    columns = []
    for first in range(len(counts)):
        for second in range(first + 1, len(counts)):
            weights = np.zeros(dual.shape[1])
            for own, other in ((first, second - 1), (second, first)):
                span = slice(starts[own], starts[own + 1])
                weights[span] = dual[other, span]
            columns.append(weights)
    product = ops.add("MatMul", _kernel(ops), np.stack(columns, axis=1))
    return ops.add("Add", product, np.asarray(model._intercept_, dtype=np.float64))


def _votes(ops: Ops, pairs: str, count: int) -> str:
    won = ops.cast(ops.add("Greater", pairs, np.float64(0.0)))
    order = [(first, second) for first in range(count) for second in range(first + 1, count)]
    firsts, seconds = np.zeros((len(order), count)), np.zeros((len(order), count))
    for number, (first, second) in enumerate(order):
        firsts[number, first] = seconds[number, second] = 1.0
    lost = ops.add("Sub", np.float64(1.0), won)
    return ops.add("Add", ops.add("MatMul", won, firsts), ops.add("MatMul", lost, seconds))


def _probabilities(ops: Ops, pairs: str, count: int) -> str:
    """Platt's probabilities of the pairs, coupled by libsvm's ``multiclass_probability``, shape (rows, classes)."""
    model = ops.model
    slopes, offsets = (np.asarray(found, dtype=np.float64) for found in (model._probA, model._probB))
    fitted = ops.add("Add", ops.add("Mul", pairs, slopes), offsets)
    won = ops.add("Clip", ops.sigmoid(ops.add("Neg", fitted)), np.float64(LEAST), np.float64(1 - LEAST))
    lost = ops.add("Sub", np.float64(1.0), won)
    # Q as sums over pairs: its diagonal adds squares of what a class loses, beside it are negated products.
    order = [(first, second) for first in range(count) for second in range(first + 1, count)]
    of_won, of_lost, of_both = (np.zeros((len(order), count * count)) for _ in range(3))
    for number, (first, second) in enumerate(order):
        of_won[number, second * count + second] = of_lost[number, first * count + first] = 1.0
        of_both[number, first * count + second] = of_both[number, second * count + first] = -1.0
    parts = [
        ops.add("MatMul", ops.add("Mul", left, right), where)
        for left, right, where in ((won, won, of_won), (lost, lost, of_lost), (won, lost, of_both))
    ]
    matrix = ops.reshape(ops.add("Add", ops.add("Add", parts[0], parts[1]), parts[2]), [-1, count, count])
    rows = ops.add("Concat", ops.add("Shape", pairs, start=0, end=1), np.array([count]), axis=0)
    start = ops.add("Expand", ops.constant(np.full((1, 1), 1.0 / count)), rows)
    rounds = ops.constant(np.int64(max(ROUNDS, count)))
    again = ops.constant(np.bool_(True))
    body = _coupling(ops.dtype, count)
    return ops.add_many("Loop", rounds, again, start, matrix, outputs=2, body=body)[0]


def _coupling(dtype: Any, count: int) -> Any:
    """One round of the coupling, for all rows at once; a row that is close enough stays as it is."""
    body = Body(dtype)

    def column(name: str, number: int) -> str:
        return body.add("Gather", name, np.array([number]), axis=1)

    def divided(name: str, by: str) -> str:
        return body.add("Div", name, by)

    product = body.add("Squeeze", body.add("MatMul", "q", body.add("Unsqueeze", "p", np.array([2]))), np.array([2]))
    total = body.add("ReduceSum", body.add("Mul", "p", product), np.array([1]), keepdims=1)
    error = body.add("ReduceMax", body.add("Abs", body.add("Sub", product, total)), np.array([1]), keepdims=1)
    done = body.add("Less", error, CLOSE / count)
    p = "p"
    for number in range(count):
        row = body.add("Gather", "q", np.array(number), axis=1)
        diagonal, own = column(row, number), column(product, number)
        step = divided(body.add("Sub", total, own), diagonal)
        scale = body.add("Add", step, 1.0)
        moved = np.zeros((1, count))
        moved[0, number] = 1.0
        p = divided(body.add("Add", p, body.add("Mul", step, moved)), scale)
        gain = body.add("Add", body.add("Mul", step, diagonal), body.add("Mul", own, 2.0))
        total = divided(divided(body.add("Add", total, body.add("Mul", step, gain)), scale), scale)
        product = divided(body.add("Add", product, body.add("Mul", step, row)), scale)
    kept = body.add("Where", done, "p", p)
    open_rows = body.add("Cast", body.add("Not", done), to=7)
    more = body.add("Cast", body.add("ReduceMax", open_rows, keepdims=0), to=9)
    return body.graph(
        [("round", np.int64, 0), ("again", np.bool_, 0), ("p", dtype, 2), ("q", dtype, 3)],
        [(more, np.bool_, 0), (kept, dtype, 2), ("q", dtype, 3)],
    )


RECIPES = (
    Recipe(("sklearn.svm.SVC", "sklearn.svm.NuSVC"), "classifier", classifier, extra=class_scores.has_both),
    Recipe(("sklearn.svm.SVR", "sklearn.svm.NuSVR"), "regressor", regressor),
    Recipe(("sklearn.svm.OneClassSVM",), "outlier", one_class, extra=lambda model: ("score_samples",)),
)
