"""Several targets: a part for each, alone or in a chain where each sees the answers before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import inner_estimators
from converters.sklearn.recipes.writing.ops import Ops, classes
from converters.sklearn.recipes.writing.registry import Recipe


def classifier(ops: Ops) -> None:
    """Each part's class, side by side; its probabilities are a further method for each target."""
    labels = []
    for number, estimator in enumerate(ops.model.estimators_):
        found = ops.methods(estimator)
        labels.append(_label_column(ops, found["predict"]))
        if ops.wants(f"predict_proba_{number}"):
            proba = inner_estimators.pick(found, estimator, "predict_proba")
            ops.answer_method(f"predict_proba_{number}", inner_estimators.column(ops, proba))
    ops.answer(0, ops.add("Concat", *labels, axis=1))


def regressor(ops: Ops) -> None:
    """Each part's values, side by side."""
    values = [inner_estimators.predicted(ops, estimator) for estimator in ops.model.estimators_]
    ops.answer(0, ops.add("Concat", *values, axis=1))


def classifier_chain(ops: Ops) -> None:
    """Binary parts in a chain; of numbers only, since each class is the next part's feature."""
    found = _chain(ops)
    order = np.argsort(ops.model.order_)
    for method in ("predict", "predict_proba", "decision_function"):
        if method != "predict" and not ops.wants(method):
            continue
        columns = []
        for number in order:
            estimator, answers = found[number]
            answer = inner_estimators.column(ops, inner_estimators.pick(answers, estimator, method))
            columns.append(ops.columns(answer, [1]) if method == "predict_proba" else answer)
        joined = ops.add("Concat", *columns, axis=1)
        if method == "predict":
            from onnx import TensorProto

            ops.answer(0, ops.cast(joined, int(TensorProto.INT64)))
        else:
            ops.answer_method(method, joined)


def regressor_chain(ops: Ops) -> None:
    """Regressors in a chain."""
    found = _chain(ops)
    values = [inner_estimators.column(ops, found[number][1]["predict"]) for number in np.argsort(ops.model.order_)]
    ops.answer(0, ops.add("Concat", *values, axis=1))


def _chain(ops: Ops) -> list[tuple[Any, dict[str, str]]]:
    """The parts and their answers, in the chain's order."""
    model, features = ops.model, ops.matrix()
    wanted = getattr(model, "chain_method_", "predict")
    found = []
    for estimator in model.estimators_:
        answers = ops.methods(estimator, features)
        answer = inner_estimators.column(ops, inner_estimators.pick(answers, estimator, wanted))
        if wanted == "predict_proba":
            answer = ops.columns(answer, [1])
        features = ops.add("Concat", features, answer, axis=1)
        found.append((estimator, answers))
    return found


def _label_column(ops: Ops, label: str) -> str:
    """A label of shape (rows,) or (rows, 1) as (rows, 1), of the type of the model's labels."""
    rows = ops.add("Shape", ops.operator.inputs[0].full_name, start=0, end=1)
    shaped = ops.add("Reshape", label, ops.add("Concat", rows, np.array([1]), axis=0))
    return shaped if classes(ops.model).dtype.kind in "OUS" else ops.cast(shaped, 7)


def _lists(model: Any) -> tuple[str, ...]:
    if not hasattr(model, "predict_proba"):
        return ()
    return tuple(f"predict_proba_{number}" for number in range(len(model.estimators_)))


def _matrices(model: Any) -> tuple[str, ...]:
    return tuple(name for name in ("predict_proba", "decision_function") if hasattr(model, name))


def _targets(model: Any) -> int:
    return len(model.estimators_)


_MODULE = "sklearn.multioutput."

RECIPES = (
    Recipe((_MODULE + "MultiOutputClassifier",), "multilabel", classifier, extra=_lists),
    Recipe((_MODULE + "MultiOutputRegressor",), "regressor", regressor, width=_targets),
    Recipe((_MODULE + "ClassifierChain",), "multilabel", classifier_chain, extra=_matrices),
    Recipe((_MODULE + "RegressorChain",), "regressor", regressor_chain, width=_targets),
)
