"""Embeddings of new rows by their nearest training rows; skl2onnx has none of them."""

from __future__ import annotations

import numpy as np

from converters.sklearn.recipes.kernel_maps import kernel_components
from converters.sklearn.recipes.neighbors import all_distances, nearest
from converters.sklearn.recipes.writing.loops import solve_positive
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError


def isomap(ops: Ops) -> None:
    """Shortest ways to all training rows by way of the nearest, then kernel PCA of them."""
    model, x = ops.model, ops.matrix()
    if model.n_neighbors is None:
        raise ConversionError("Isomap(radius=...) is not converted", hint="use n_neighbors instead of radius")
    away, index = nearest(ops, x, model.nbrs_, int(model.n_neighbors))
    ways = ops.add("Gather", np.asarray(model.dist_matrix_, dtype=float), index, axis=0)
    ways = ops.add("ReduceMin", ops.add("Add", ways, ops.add("Unsqueeze", away, [2])), [1], keepdims=0)
    kernel = ops.add("Mul", ops.add("Mul", ways, ways), -0.5)
    ops.answer(0, kernel_components(ops, kernel, model.kernel_pca_))


def locally_linear_embedding(ops: Ops) -> None:
    """The embedding of the nearest training rows, with the weights that rebuild the row from them."""
    model, x = ops.model, ops.matrix()
    count = int(model.n_neighbors)
    _, index = nearest(ops, x, model.nbrs_, count)
    around = ops.add("Gather", np.asarray(model.nbrs_._fit_X, dtype=float), index, axis=0)
    offset = ops.add("Sub", around, ops.add("Unsqueeze", x, [1]))
    gram = ops.add("MatMul", offset, ops.add("Transpose", offset, perm=[0, 2, 1]))
    trace = ops.sum(ops.sum(ops.add("Mul", gram, np.eye(count)[None]), 2, keepdims=True), 1, keepdims=True)
    amount = ops.add("Where", ops.add("Greater", trace, 0.0), ops.add("Mul", trace, float(model.reg)), float(model.reg))
    system = ops.add("Add", gram, ops.add("Mul", amount, np.eye(count)[None]))
    ones = ops.add("Add", ops.add("Mul", ops.cast(index), 0.0), 1.0)
    weights = solve_positive(ops, system, ones, count)
    weights = ops.add("Div", weights, ops.sum(weights, 1, keepdims=True))
    placed = ops.add("Gather", np.asarray(model.embedding_, dtype=float), index, axis=0)
    ops.answer(0, ops.sum(ops.add("Mul", placed, ops.add("Unsqueeze", weights, [2])), 1))


def radius_neighbors_transformer(ops: Ops) -> None:
    """Distances to the training rows within the radius, or 1 for each of them; 0 elsewhere."""
    model = ops.model
    away = all_distances(ops, ops.matrix(), model)
    inside = ops.add("LessOrEqual", away, float(model.radius))
    ops.answer(0, ops.cast(inside) if model.mode == "connectivity" else ops.add("Where", inside, away, 0.0))


RECIPES = (
    Recipe(
        ("sklearn.manifold.Isomap",),
        "transformer",
        isomap,
        width=lambda model: int(model.kernel_pca_.eigenvectors_.shape[1]),
    ),
    Recipe(
        ("sklearn.manifold.LocallyLinearEmbedding",),
        "transformer",
        locally_linear_embedding,
        width=lambda model: int(model.embedding_.shape[1]),
    ),
    Recipe(
        ("sklearn.neighbors.RadiusNeighborsTransformer",),
        "transformer",
        radius_neighbors_transformer,
        width=lambda model: int(model.n_samples_fit_),
    ),
)
