"""Histogram boosting: features compared in double, categories by sets, unknown categories as missing ones.

skl2onnx rounds the thresholds to float32 (https://github.com/onnx/sklearn-onnx/issues/1192) and sends categories to
wrong branches (https://github.com/onnx/sklearn-onnx/issues/1051).
"""

from __future__ import annotations

from typing import Any

from converters.graph import forest
from converters.graph.forest import Forest, Mode, Tree
from converters.sklearn.recipes.boosting import answer_scores, inverse_link
from converters.sklearn.recipes.writing.columns import is_missing, lookup, split
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def histogram_regressor(ops: Ops) -> None:
    """The inverse link of the sum of the trees."""
    ops.answer(0, ops.cast(inverse_link(ops, ops.model._loss, _raw(ops))))


def histogram_classifier(ops: Ops) -> None:
    """The class by the sum of the trees: by its sign, which is positive for the second of two, or the largest."""
    answer_scores(ops, ops.model._loss, _raw(ops), second_at_zero=False)


def _raw(ops: Ops) -> str:
    import numpy as np

    model = ops.model
    trees = [_tree(part, target) for parts in model._predictors for target, part in enumerate(parts)]
    base = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1)
    return forest.emit(ops, _features(ops), Forest(trees, model.n_trees_per_iteration_, base=base))


def _tree(predictor: Any, target: int) -> Tree:
    import numpy as np

    nodes = predictor.nodes
    leaf, by_set = nodes["is_leaf"].astype(bool), nodes["is_categorical"].astype(bool)
    sets = predictor.raw_left_cat_bitsets
    members = {node: _numbers(sets[nodes["bitset_idx"][node]]) for node in np.flatnonzero(by_set & ~leaf).tolist()}
    return Tree(
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        true=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        false=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        value=nodes["value"],
        mode=np.where(by_set, Mode.MEMBER, Mode.LE),
        nan_true=nodes["missing_go_to_left"].astype(bool),
        members=members,
        target=target,
    )


def _numbers(bits: Any) -> list[int]:
    """The numbers in a set of 8 words of 32 bits, the lowest first."""
    import numpy as np

    found: list[int] = np.flatnonzero((np.asarray(bits)[:, None] >> np.arange(32, dtype=np.uint32)) & 1).tolist()
    return found


def _features(ops: Ops) -> str:
    """The columns in double, in the order of the trees: with categories these come first, each as its number."""
    from onnx import TensorProto

    double = int(TensorProto.DOUBLE)
    preprocessor = getattr(ops.model, "_preprocessor", None)
    if preprocessor is None:
        return ops.cast(ops.matrix(), double)
    categories = iter(preprocessor.named_transformers_["encoder"].categories_)
    first, then = [], []
    for column, categorical in zip(split(ops), ops.model.is_categorical_, strict=True):
        if categorical:
            known = [value for value in next(categories) if not is_missing(value)]
            table = ops.constant([*([float(number)] for number in range(len(known))), [float("nan")]], "float64")
            first.append(ops.add("Gather", table, lookup(ops, column, known), axis=0))
        else:
            then.append(ops.cast(column.name, double))
    return ops.add("Concat", *first, *then, axis=1)


RECIPES = (
    Recipe(("sklearn.ensemble.HistGradientBoostingRegressor",), "regressor", histogram_regressor),
    Recipe(
        ("sklearn.ensemble.HistGradientBoostingClassifier",),
        "classifier",
        histogram_classifier,
        extra=lambda model: ("decision_function",),
    ),
)
