"""Bagging: parts on some of the columns; where all are trees, they become one ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converters.graph import forest
from converters.graph.forest import Forest
from converters.sklearn.recipes.trees import node_shares, rounded, tree_of
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def bagging_regressor(ops: Ops) -> None:
    """The mean of the parts' predictions."""
    model = ops.model
    count = _width(model)
    if _are_trees(model):
        trees = [
            tree_of(part, part.tree_.value[:, 0 if count == 1 else slice(None), 0], features=features)
            for part, features in _parts(model)
        ]
        mean = ops.cast(forest.emit(ops, rounded(ops), Forest(trees, count, average=True)))
    else:
        shape = [-1, count]
        mean = _mean(ops, [ops.reshape(found["predict"], shape) for found in _answers(ops)])
    ops.answer(0, mean)


def bagging_classifier(ops: Ops) -> None:
    """The mean of the parts' probabilities, or of the votes of those that have none; the first class of the largest."""
    import numpy as np

    model = ops.model
    count = int(model.n_classes_)
    if _are_trees(model):
        trees = [
            tree_of(part, node_shares(part.tree_)[:, 0, :] @ _places(part.classes_, count), features=features)
            for part, features in _parts(model)
        ]
        probabilities = forest.emit(ops, rounded(ops), Forest(trees, count, average=True))
    else:
        answers, shares = _answers(ops), []
        for part, found in zip(model.estimators_, answers, strict=True):
            if "predict_proba" in found:
                share = found["predict_proba"]
                if len(part.classes_) != count:
                    share = ops.add("MatMul", share, _places(part.classes_, count))
            else:
                label = ops.reshape(found["predict"], [-1, 1])
                share = ops.cast(ops.add("Equal", label, np.arange(count)[None, :]))
            shares.append(share)
        probabilities = _mean(ops, shares)
        if ops.wants("decision_function"):
            shape = [-1, 1 if count == 2 else count]
            ops.answer_method(
                "decision_function", _mean(ops, [ops.reshape(found["decision_function"], shape) for found in answers])
            )
    ops.answer(0, ops.class_of(ops.first_maximum(probabilities)))
    ops.answer(1, ops.cast(probabilities))


def _parts(model: Any) -> Sequence[tuple[Any, Any]]:
    return list(zip(model.estimators_, model.estimators_features_, strict=True))


def _answers(ops: Ops) -> list[dict[str, str]]:
    """Each part's methods on its columns."""
    x = ops.matrix()
    every = list(range(ops.model.n_features_in_))
    return [
        ops.methods(part, x if list(features) == every else ops.columns(x, features))
        for part, features in _parts(ops.model)
    ]


def _mean(ops: Ops, names: Sequence[str]) -> str:
    total = names[0]
    for name in names[1:]:
        total = ops.add("Add", total, name)
    return ops.add("Div", total, float(len(names)))


def _places(known: Any, count: int) -> Any:
    """A matrix that puts a part's classes, which are numbers, in their places among all."""
    import numpy as np

    places = np.zeros((len(known), count))
    places[np.arange(len(known)), np.asarray(known, dtype=np.int64)] = 1.0
    return places


def _are_trees(model: Any) -> bool:
    return all(hasattr(part, "tree_") for part in model.estimators_)


def _width(model: Any) -> int:
    part = model.estimators_[0]
    weights = getattr(part, "coef_", None)
    return int(getattr(part, "n_outputs_", 1 if weights is None or weights.ndim < 2 else len(weights)))


def _extra(model: Any) -> Sequence[str]:
    return ("decision_function",) if hasattr(model, "decision_function") else ()


RECIPES = (
    Recipe(
        (
            "sklearn.ensemble.BaggingClassifier",
            # These balance the rows that each part is trained on, and predict as their base does.
            "imblearn.ensemble.BalancedBaggingClassifier",
            "imblearn.ensemble.EasyEnsembleClassifier",
        ),
        "classifier",
        bagging_classifier,
        extra=_extra,
    ),
    Recipe(("sklearn.ensemble.BaggingRegressor",), "regressor", bagging_regressor, width=_width),
)
