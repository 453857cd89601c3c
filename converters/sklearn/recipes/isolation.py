"""Isolation forest: the mean depth of a row's leaves as a score; skl2onnx has it only in float32, with other NaN."""

from __future__ import annotations

from typing import Any

from converters.graph import forest
from converters.graph.forest import Forest
from converters.sklearn.recipes.trees import rounded, tree_of
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def isolation_forest(ops: Ops) -> None:
    """The score is 2 to the power of minus the depth over what is to be expected; below the offset is an outlier."""
    import numpy as np
    from sklearn.ensemble._iforest import _average_path_length

    model = ops.model
    trees = [
        tree_of(part, _depths(part.tree_) + _average_path_length(part.tree_.n_node_samples) - 1.0, features=features)
        for part, features in zip(model.estimators_, model.estimators_features_, strict=True)
    ]
    total = forest.emit(ops, rounded(ops), Forest(trees))
    expected = len(trees) * float(_average_path_length([getattr(model, "_max_samples", model.max_samples_)])[0])
    if expected == 0:  # scikit-learn puts 1 for zero over zero
        total, expected = ops.add("Add", ops.add("Mul", total, _number(ops, 0.0)), _number(ops, 1.0)), 1.0
    power = ops.add("Neg", ops.add("Div", total, _number(ops, expected)))
    samples = ops.add("Neg", ops.add("Pow", _number(ops, 2.0), power))
    scores = ops.add("Sub", samples, _number(ops, model.offset_))
    outlier = ops.add("Less", scores, _number(ops, 0.0))
    label = ops.add("Where", outlier, np.array(-1), np.array(1))
    ops.answer(0, ops.reshape(label, [-1]))
    ops.answer(1, ops.cast(scores))
    ops.answer_method("score_samples", ops.cast(samples))


def _depths(tree: Any) -> Any:
    """How many nodes there are from the root to each node, both counted; scikit-learn 1.2 does not keep them."""
    import numpy as np

    depths = np.ones(tree.node_count)
    for node in range(tree.node_count):  # a parent comes before its children
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depths[child] = depths[node] + 1
    return depths


def _number(ops: Ops, value: float) -> str:
    return ops.constant(value, "float64")


RECIPES = (
    Recipe(("sklearn.ensemble.IsolationForest",), "outlier", isolation_forest, extra=lambda model: ("score_samples",)),
)
