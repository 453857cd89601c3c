"""Decompositions that are a linear map of the centred row; skl2onnx has none of these."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def linear(ops: Ops, x: str, mean: Any, matrix: Any, offset: Any = None) -> str:
    """(x - mean) @ matrix + offset, each of mean and offset None where it is absent."""
    if mean is not None:
        x = ops.add("Sub", x, np.asarray(mean, dtype=float).reshape(1, -1))
    matrix = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    result = ops.add("MatMul", x, np.ascontiguousarray(matrix, dtype=float))
    return result if offset is None else ops.add("Add", result, np.asarray(offset, dtype=float).reshape(1, -1))


def fast_ica(ops: Ops) -> None:
    """The unmixing matrix."""
    model = ops.model
    ops.answer(0, linear(ops, ops.matrix(), model.mean_ if model.whiten else None, model.components_.T))


def factor_analysis(ops: Ops) -> None:
    """The expected mean of the latent variables."""
    model = ops.model
    weighted = model.components_ / model.noise_variance_
    covariance = np.linalg.inv(np.eye(len(model.components_)) + weighted @ model.components_.T)
    ops.answer(0, linear(ops, ops.matrix(), model.mean_, weighted.T @ covariance))


def sparse_pca(ops: Ops) -> None:
    """Ridge regression of the row on the components, which is one matrix for all rows."""
    model = ops.model
    components = np.asarray(model.components_, dtype=float)
    gram = components @ components.T + float(model.ridge_alpha) * np.eye(len(components))
    ops.answer(0, linear(ops, ops.matrix(), model.mean_, np.linalg.solve(gram, components).T))


def random_projection(ops: Ops) -> None:
    """The random matrix."""
    ops.answer(0, linear(ops, ops.matrix(), None, ops.model.components_.T))


def boltzmann_machine(ops: Ops) -> None:
    """The hidden units' probabilities."""
    model = ops.model
    scores = linear(ops, ops.matrix(), None, model.components_.T, model.intercept_hidden_)
    ops.answer(0, ops.sigmoid(scores))


def feature_agglomeration(ops: Ops) -> None:
    """The mean, median, sum, maximum or minimum of the features of each cluster."""
    from edgepack.errors import ConversionError

    model, x = ops.model, ops.matrix()
    labels = np.asarray(model.labels_)
    known = np.unique(labels)
    member = (labels[:, None] == known[None, :]).astype(float)
    pool = model.pooling_func
    if pool is np.mean or pool is np.sum:
        ops.answer(0, linear(ops, x, None, member / (member.sum(axis=0) if pool is np.mean else 1.0)))
        return
    reduced = {np.max: "ReduceMax", np.min: "ReduceMin", np.median: ""}.get(pool)
    if reduced is None:
        raise ConversionError(
            "FeatureAgglomeration pools with a function that has no ONNX form",
            hint="use np.mean, np.median, np.sum, np.max or np.min",
        )
    groups = [ops.columns(x, np.flatnonzero(labels == label).tolist()) for label in known]
    sizes = member.sum(axis=0).astype(int).tolist()
    found = [
        ops.add(reduced, group, [1], keepdims=1) if reduced else _median(ops, group, size)
        for group, size in zip(groups, sizes, strict=True)
    ]
    ops.answer(0, found[0] if len(found) == 1 else ops.add("Concat", *found, axis=1))


def _median(ops: Ops, group: str, size: int) -> str:
    ordered, _ = ops.add_many("TopK", group, [size], outputs=2, axis=1, largest=0, sorted=1)
    middle = ops.columns(ordered, [(size - 1) // 2, size // 2])
    return ops.add("Mul", ops.sum(middle, 1, keepdims=True), 0.5)


def _components(model: Any) -> int:
    return int(model.components_.shape[0])


RECIPES = (
    Recipe(("sklearn.decomposition.FastICA",), "transformer", fast_ica, width=_components),
    Recipe(("sklearn.decomposition.FactorAnalysis",), "transformer", factor_analysis, width=_components),
    Recipe(
        ("sklearn.decomposition.SparsePCA", "sklearn.decomposition.MiniBatchSparsePCA"),
        "transformer",
        sparse_pca,
        width=_components,
    ),
    Recipe(
        ("sklearn.random_projection.GaussianRandomProjection", "sklearn.random_projection.SparseRandomProjection"),
        "transformer",
        random_projection,
        width=_components,
    ),
    Recipe(("sklearn.neural_network.BernoulliRBM",), "transformer", boltzmann_machine, width=_components),
    Recipe(
        ("sklearn.cluster.FeatureAgglomeration",),
        "transformer",
        feature_agglomeration,
        width=lambda model: len(np.unique(model.labels_)),
    ),
)
