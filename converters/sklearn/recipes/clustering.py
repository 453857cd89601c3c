"""Clusterers that predict by the nearest centre; skl2onnx has KMeans and MiniBatchKMeans alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import distances
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def centre_distances(ops: Ops, x: str, centres: Any) -> str:
    """Euclidean distances to the centres, shape (rows, centres)."""
    return ops.add("Sqrt", distances.squared(ops, x, np.asarray(centres, dtype=float)))


def nearest_centre(ops: Ops) -> None:
    """The number of the nearest centre, and the distances to all."""
    away = centre_distances(ops, ops.matrix(), ops.model.cluster_centers_)
    ops.answer(0, ops.add("ArgMin", away, axis=1, keepdims=0))
    ops.answer(1, away)


def birch(ops: Ops) -> None:
    """The cluster of the nearest subcluster, and the distances to all subclusters."""
    model = ops.model
    away = centre_distances(ops, ops.matrix(), model.subcluster_centers_)
    nearest = ops.add("ArgMin", away, axis=1, keepdims=0)
    ops.answer(0, ops.add("Gather", np.asarray(model.subcluster_labels_).astype(np.int64), nearest))
    ops.answer(1, away)


def bisecting_k_means(ops: Ops) -> None:
    """Down the tree of bisections, at each by the nearer of two centres; and the distances to all centres."""
    model, x = ops.model, ops.matrix()
    mean = getattr(model, "_X_mean", 0.0)

    def label(node: Any) -> str:
        if node.left is None:
            return ops.constant(np.array([node.label], dtype=np.int64))
        centres = np.vstack((node.left.center, node.right.center)) + mean
        away = distances.squared(ops, x, centres)
        left = ops.add("LessOrEqual", ops.columns(away, [0]), ops.columns(away, [1]))
        return ops.add("Where", ops.reshape(left, [-1]), label(node.left), label(node.right))

    ops.answer(0, label(model._bisecting_tree))
    ops.answer(1, centre_distances(ops, x, model.cluster_centers_))


_MODULE = "sklearn.cluster."

RECIPES = (
    Recipe((_MODULE + "MeanShift", _MODULE + "AffinityPropagation"), "clusterer", nearest_centre),
    Recipe((_MODULE + "Birch",), "clusterer", birch),
    Recipe((_MODULE + "BisectingKMeans",), "clusterer", bisecting_k_means),
)
