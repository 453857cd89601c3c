"""Nearest centroid: skl2onnx has no converter for it."""

from __future__ import annotations

from converters.sklearn.recipes.ops import Ops
from converters.sklearn.recipes.registry import Recipe


def nearest_centroid(ops: Ops) -> None:
    """The class whose centroid is nearest."""
    model, x = ops.model, ops.matrix()
    difference = ops.add("Sub", ops.add("Unsqueeze", x, [1]), model.centroids_[None])
    distance = ops.sum(ops.add("Mul", difference, difference), 2)
    ops.answer(0, ops.class_of(ops.add("ArgMin", distance, axis=1, keepdims=0)))
    ops.answer(1, ops.add("Neg", distance))


RECIPES = (Recipe(("sklearn.neighbors.NearestCentroid",), "classifier", nearest_centroid),)
