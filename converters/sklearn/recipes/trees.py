"""Decision trees and forests: features rounded to float32, compared with double thresholds, leaves added in double.

skl2onnx sends missing values of trees that were fitted with such to the wrong branch, or never ends
(https://github.com/onnx/sklearn-onnx/issues/1253), and compares float64 features unrounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converters.graph import forest
from converters.graph.forest import Forest, Tree
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Kind, Recipe


def rounded(ops: Ops) -> str:
    """The estimator's matrix as its trees read it: values of float32, in double."""
    from onnx import TensorProto

    return ops.cast(ops.cast(ops.matrix(), int(TensorProto.FLOAT)), int(TensorProto.DOUBLE))


def tree_of(estimator: Any, value: Any, *, target: int = 0, features: Any = None) -> Tree:
    """scikit-learn's tree with ``value`` in its leaves, shape (nodes,) or (nodes, outputs).

    ``features`` are the columns that a tree on some of the columns was fitted on.
    """
    import numpy as np

    found = estimator.tree_
    chosen = found.feature if features is None else np.asarray(features)[np.maximum(found.feature, 0)]
    return Tree(
        feature=chosen,
        threshold=found.threshold,
        true=found.children_left,
        false=found.children_right,
        value=value,
        nan_true=_missing_go_to_left(found),
        target=target,
    )


def _missing_go_to_left(tree: Any) -> Any:
    """Where missing numbers take the left branch; before scikit-learn 1.3 trees refuse them."""
    import numpy as np

    known = getattr(tree, "missing_go_to_left", None)
    return np.zeros(tree.node_count, dtype=bool) if known is None else known.astype(bool)


def node_shares(tree: Any) -> Any:
    """A fitted classifier's probabilities in each node, shape (nodes, targets, classes).

    Up to scikit-learn 1.3 a tree keeps weighted counts, which its ``predict_proba`` divides by their sum.
    """
    import numpy as np
    import sklearn

    value = tree.value
    if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 4):
        return value
    total = value.sum(axis=2, keepdims=True)
    return value / np.where(total == 0, 1.0, total)


def tree_regressor(ops: Ops) -> None:
    """The mean of the trees' leaves, one value for each target."""
    parts = _parts(ops.model)
    count = ops.model.n_outputs_
    trees = [tree_of(part, part.tree_.value[:, 0 if count == 1 else slice(None), 0]) for part in parts]
    ops.answer(0, ops.cast(forest.emit(ops, rounded(ops), _forest(trees, count))))


def tree_classifier(ops: Ops) -> None:
    """The mean of the trees' probabilities, and the first class of the largest; of several targets, for each."""
    model = ops.model
    if model.n_outputs_ > 1:
        _multilabel(ops)
        return
    count = int(model.n_classes_)
    trees = [tree_of(part, node_shares(part.tree_)[:, 0, :]) for part in _parts(model)]
    probabilities = forest.emit(ops, rounded(ops), _forest(trees, count))
    ops.answer(0, ops.class_of(ops.first_maximum(probabilities)))
    ops.answer(1, ops.cast(probabilities))


def random_trees_embedding(ops: Ops) -> None:
    """A one in the column of the leaf that each tree comes to."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    known = ops.model.one_hot_encoder_.categories_
    trees, start = [], 0
    for number, (part, leaves) in enumerate(zip(ops.model.estimators_, known, strict=True)):
        column = np.zeros(part.tree_.node_count)
        column[np.asarray(leaves, dtype=np.int64)] = start + np.arange(len(leaves))
        trees.append(tree_of(part, column, target=number))
        start += len(leaves)
    x = rounded(ops)
    columns = ops.cast(forest.emit(ops, x, Forest(trees, len(trees))), int(TensorProto.INT64))
    rows = ops.add("Shape", x, start=0, end=1)
    zero, one = (numpy_helper.from_array(np.full(1, value, dtype=ops.dtype)) for value in (0, 1))
    zeros = ops.add("ConstantOfShape", ops.add("Concat", rows, [start], axis=0), value=zero)
    ones = ops.add("ConstantOfShape", ops.add("Shape", columns), value=one)
    ops.answer(0, ops.add("ScatterElements", zeros, columns, ones, axis=1))


def _multilabel(ops: Ops) -> None:
    import numpy as np

    model = ops.model
    most = int(max(model.n_classes_))
    trees = [tree_of(part, node_shares(part.tree_).reshape(part.tree_.node_count, -1)) for part in _parts(model)]
    every = forest.emit(ops, rounded(ops), _forest(trees, model.n_outputs_ * most))
    labels = []
    for target, classes in enumerate(model.classes_):
        probabilities = ops.columns(every, range(target * most, target * most + len(classes)))
        # scikit-learn writes the labels of all targets in the type of the first's.
        names = np.asarray(classes).astype(np.asarray(model.classes_[0]).dtype)
        names = names if names.dtype.kind in "OUS" else names.astype(np.int64)
        label = ops.add("Gather", ops.constant(names), ops.first_maximum(probabilities), axis=0)
        labels.append(ops.add("Unsqueeze", label, [1]))
        ops.answer_method(f"predict_proba_{target}", ops.cast(probabilities))
    ops.answer(0, ops.add("Concat", *labels, axis=1))


def _parts(model: Any) -> Sequence[Any]:
    found: Sequence[Any] = getattr(model, "estimators_", [model])
    return found


def _forest(trees: Sequence[Tree], outputs: int) -> Forest:
    # One tree is its own mean.
    return Forest(trees, outputs, average=len(trees) > 1)


def _kind(model: Any) -> Kind:
    return "multilabel" if model.n_outputs_ > 1 else "classifier"


def _extra(model: Any) -> Sequence[str]:
    return [f"predict_proba_{target}" for target in range(model.n_outputs_)] if model.n_outputs_ > 1 else ()


_NAMES = (
    "sklearn.tree.DecisionTree",
    "sklearn.tree.ExtraTree",
    "sklearn.ensemble.RandomForest",
    "sklearn.ensemble.ExtraTrees",
)

RECIPES = (
    Recipe(
        (*(f"{name}Classifier" for name in _NAMES), "imblearn.ensemble.BalancedRandomForestClassifier"),
        _kind,
        tree_classifier,
        extra=_extra,
    ),
    Recipe(
        tuple(f"{name}Regressor" for name in _NAMES),
        "regressor",
        tree_regressor,
        width=lambda model: int(model.n_outputs_),
    ),
    Recipe(
        ("sklearn.ensemble.RandomTreesEmbedding",),
        "transformer",
        random_trees_embedding,
        width=lambda model: sum(map(len, model.one_hot_encoder_.categories_)),
    ),
)
