"""Many classes by binary parts: one against the rest, one against one, error-correcting codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores, inner_estimators
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Kind, Recipe
from edgepack.errors import ConversionError


def one_vs_rest(ops: Ops) -> None:
    """The class whose part is most for it; every label whose part is, where there may be several."""
    from onnx import TensorProto

    model = ops.model
    answers = [_binary(ops, estimator) for estimator in model.estimators_]
    has_scores = hasattr(model, "decision_function")
    scores = _preferred(ops, answers)
    proba = None
    if hasattr(model, "predict_proba"):
        proba = _joined(ops, [inner_estimators.pick(found, model.estimator, "predict_proba") for found in answers])
    limit = inner_estimators.threshold(model.estimators_[0])
    if _kind(model) == "multilabel":
        chosen = ops.add("Greater", scores, np.float64(limit))
        ops.answer(0, ops.cast(chosen, int(TensorProto.INT64)))
        for method, found in (("predict_proba", proba), ("decision_function", scores if has_scores else None)):
            if found is not None:
                ops.answer_method(method, found)
        return
    single = len(model.estimators_) == 1
    label = ops.class_of(class_scores.above(ops, scores, limit) if single else ops.first_maximum(scores))
    if proba is not None:
        proba = class_scores.both(ops, proba) if single else _shares(ops, proba)
    class_scores.answer_classifier(ops, label, proba, scores)


def one_vs_one(ops: Ops) -> None:
    """Votes of the pairs, and their confidences where votes are equal."""
    model = ops.model
    if model.pairwise_indices_ is not None:
        raise ConversionError("one-vs-one on a precomputed kernel has no ONNX form", hint="use a kernel by name")
    wins, confidences = [], []
    for estimator in model.estimators_:
        found = ops.methods(estimator)
        wins.append(inner_estimators.column(ops, found["predict"]))
        confidences.append(_scores(ops, estimator, found))
    count = len(model.classes_)
    scores = class_scores.ovr_of_ovo(ops, _joined(ops, wins), _preferred(ops, confidences), count)
    if count > 2:
        class_scores.answer_classifier(ops, ops.class_of(ops.first_maximum(scores)), None, scores)
        return
    second = ops.columns(scores, [1])
    label = ops.class_of(class_scores.above(ops, second, inner_estimators.threshold(model.estimators_[0])))
    class_scores.answer_classifier(ops, label, None, second)


def output_code(ops: Ops) -> None:
    """The class whose code is nearest to what the parts answer."""
    model = ops.model
    code = _preferred(ops, [_binary(ops, estimator) for estimator in model.estimators_])
    book = np.asarray(model.code_book_, dtype=np.float64)
    # As scikit-learn does it, without the codes' own squares, so that ties fall alike.
    product = ops.add("Mul", ops.add("MatMul", code, book.T), np.float64(2.0))
    nearness = ops.add("Sub", product, (book * book).sum(axis=1))
    ops.answer(0, ops.class_of(ops.first_maximum(nearness)))
    ops.answer(1, nearness)


def _binary(ops: Ops, estimator: Any) -> dict[str, str]:
    """What a part answers for its second class, method by method, each of shape (rows, 1)."""
    if type(estimator).__name__ == "_ConstantPredictor":  # scikit-learn's own, where a class is never or always there
        always = ops.for_each_row(np.asarray(estimator.y_, dtype=np.float64).reshape(1, 1))
        return {"decision_function": always, "predict_proba": always}
    return _scores(ops, estimator, ops.methods(estimator))


def _scores(ops: Ops, estimator: Any, found: dict[str, str]) -> dict[str, str]:
    if not hasattr(estimator, "decision_function") and not hasattr(estimator, "predict_proba"):
        return {"predict": inner_estimators.column(ops, found["predict"])}
    answers = {}
    if hasattr(estimator, "decision_function"):
        scores = inner_estimators.pick(found, estimator, "decision_function")
        answers["decision_function"] = inner_estimators.column(ops, scores)
    if "predict_proba" in found:
        answers["predict_proba"] = ops.columns(inner_estimators.column(ops, found["predict_proba"]), [1])
    return answers


def _preferred(ops: Ops, answers: list[dict[str, str]]) -> str:
    """Of each part what ``sklearn.multiclass._predict_binary`` takes, side by side."""
    wanted = ("decision_function", "predict_proba", "predict")
    return _joined(ops, [next(found[name] for name in wanted if name in found) for found in answers])


def _shares(ops: Ops, proba: str) -> str:
    """Rows divided by their sum, those of zeros left as they are."""
    total = ops.sum(proba, 1, keepdims=True)
    return ops.add("Div", proba, ops.add("Where", ops.add("Equal", total, np.float64(0)), np.float64(1), total))


def _joined(ops: Ops, columns: list[str]) -> str:
    return ops.add("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]


def _kind(model: Any) -> Kind:
    return "multilabel" if model.multilabel_ else "classifier"


def _extra(model: Any) -> tuple[str, ...]:
    if model.multilabel_:
        return tuple(name for name in ("predict_proba", "decision_function") if hasattr(model, name))
    return class_scores.has_both(model)


_MODULE = "sklearn.multiclass."

RECIPES = (
    Recipe((_MODULE + "OneVsRestClassifier",), _kind, one_vs_rest, extra=_extra),
    Recipe((_MODULE + "OneVsOneClassifier",), "classifier", one_vs_one),
    Recipe((_MODULE + "OutputCodeClassifier",), "classifier", output_code),
)
