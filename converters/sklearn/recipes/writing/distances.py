"""Distances from every row to every point of a fixed set, as scikit-learn measures them.

Always from the differences, never by the shortcut ``x² - 2xy + y²``: that loses all digits where values are large
beside their spread (timestamps), and makes no zero of the distance from a point to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.body import Body
from converters.sklearn.recipes.writing.ops import Ops
from edgepack.errors import ConversionError

Term = Callable[[Body, str, str], str]


def squared(ops: Ops, x: str, points: Any) -> str:
    """Squared Euclidean distances, shape (rows, points)."""
    return over_features(ops, x, points, _square)


def manhattan(ops: Ops, x: str, points: Any) -> str:
    """Sums of absolute differences, shape (rows, points)."""
    return over_features(ops, x, points, lambda body, a, b: body.add("Abs", body.add("Sub", a, b)))


def distance(ops: Ops, x: str, points: Any, metric: Any, given: Mapping[str, Any]) -> str:
    """Distances of a metric, by scikit-learn's name of it, shape (rows, points).

    ``given`` are the metric's own parameters. Raises ``ConversionError`` for an unsupported metric.
    """
    points = np.asarray(points.toarray() if hasattr(points, "toarray") else points, dtype=np.float64)
    power = given.get("p", 2)
    if metric in ("minkowski", "p") and given.get("w") is None:
        metric = {1: "manhattan", 2: "euclidean", np.inf: "chebyshev"}.get(power, metric)
    if metric in ("euclidean", "l2"):
        return ops.add("Sqrt", squared(ops, x, points))
    if metric == "sqeuclidean":
        return squared(ops, x, points)
    if metric in ("manhattan", "cityblock", "l1"):
        return manhattan(ops, x, points)
    if metric in ("chebyshev", "infinity"):
        return over_features(ops, x, points, lambda body, a, b: body.add("Abs", body.add("Sub", a, b)), "Max")
    if metric in ("minkowski", "p"):
        # A weighted feature is one that is stretched: w·|d|ᵖ = |w^(1/p)·d|ᵖ.
        stretch = np.asarray(given.get("w") if given.get("w") is not None else 1.0, dtype=np.float64) ** (1.0 / power)

        def raised(body: Body, a: str, b: str) -> str:
            return body.add("Pow", body.add("Abs", body.add("Sub", a, b)), float(power))

        summed = over_features(ops, ops.add("Mul", x, stretch), points * stretch, raised)
        return ops.add("Pow", summed, np.float64(1.0 / power))
    if metric == "seuclidean":
        scale = 1.0 / np.sqrt(np.asarray(given["V"], dtype=np.float64))
        return ops.add("Sqrt", squared(ops, ops.add("Mul", x, scale), points * scale))
    if metric == "mahalanobis":
        inverse = given["VI"] if given.get("VI") is not None else np.linalg.inv(given["V"])
        factor = np.linalg.cholesky(np.asarray(inverse, dtype=np.float64))
        return ops.add("Sqrt", squared(ops, ops.add("MatMul", x, factor), points @ factor))
    if metric == "cosine":
        return ops.add("Clip", ops.add("Sub", np.float64(1.0), cosine(ops, x, points)), np.float64(0), np.float64(2))
    if metric == "hamming":

        def unequal(body: Body, a: str, b: str) -> str:
            return body.add("Abs", body.add("Sign", body.add("Sub", a, b)))

        return ops.add("Div", over_features(ops, x, points, unequal), np.float64(points.shape[1]))
    if metric == "canberra":
        return over_features(ops, x, points, _relative)
    if metric == "braycurtis":
        below = over_features(ops, x, points, lambda body, a, b: body.add("Abs", body.add("Add", a, b)))
        return ops.add("Div", manhattan(ops, x, points), below)
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)
    raise ConversionError(
        f"distances of the metric {name!r} have no ONNX form",
        hint="use a metric such as 'minkowski', 'euclidean', 'manhattan', 'chebyshev' or 'cosine'",
    )


def cosine(ops: Ops, x: str, points: Any) -> str:
    """Cosines of the angles between rows and points; 0 where one of them is the origin."""

    def unit(array: Any) -> Any:
        length = np.linalg.norm(array, axis=1, keepdims=True)
        return array / np.where(length == 0, 1.0, length)

    length = ops.add("Sqrt", ops.sum(ops.add("Mul", x, x), 1, keepdims=True))
    at_origin = ops.add("Equal", length, np.float64(0))
    direction = ops.add("Div", x, ops.add("Where", at_origin, np.float64(1), length))
    return ops.add("MatMul", direction, unit(np.asarray(points, dtype=np.float64)).T)


def chi2(ops: Ops, x: str, points: Any) -> str:
    """Sums of (a - b)² / (a + b) over the features, those where both are 0 left out."""

    def term(body: Body, a: str, b: str) -> str:
        return _ratio(body, _square(body, a, b), body.add("Add", a, b))

    return over_features(ops, x, points, term)


def over_features(ops: Ops, x: str, points: Any, term: Term, combine: str = "Add") -> str:
    """``term`` of each feature of rows and points, added up (or ``combine``d), shape (rows, points).

    One feature after the other, so that the memory is that of the result, and the graph as long for many features as
    for few. ``term`` is given a column of shape (rows, 1) and a row of shape (1, points).
    """
    points = np.asarray(points.toarray() if hasattr(points, "toarray") else points, dtype=np.float64)
    body = Body(ops.dtype)
    column, row = body.add("Unsqueeze", "x", np.array([1])), body.add("Unsqueeze", "point", np.array([0]))
    total = body.add(combine, "before", term(body, column, row))
    graph = body.graph(
        [("before", ops.dtype, 2), ("x", ops.dtype, 1), ("point", ops.dtype, 1)], [(total, ops.dtype, 2)]
    )
    rows = ops.add("Shape", x, start=0, end=1)
    shape = ops.add("Concat", rows, np.array([len(points)]), axis=0)
    start = ops.add("Expand", ops.constant(np.zeros((1, 1))), shape)
    transposed = ops.add("Transpose", x, perm=[1, 0])
    return ops.add("Scan", start, transposed, np.ascontiguousarray(points.T), body=graph, num_scan_inputs=2)


def _square(body: Body, a: str, b: str) -> str:
    difference = body.add("Sub", a, b)
    return body.add("Mul", difference, difference)


def _relative(body: Body, a: str, b: str) -> str:
    below = body.add("Add", body.add("Abs", a), body.add("Abs", b))
    return _ratio(body, body.add("Abs", body.add("Sub", a, b)), below)


def _ratio(body: Body, above: str, below: str) -> str:
    """The ratio, and 0 where it would be 0/0."""
    nothing = body.add("Equal", below, 0.0)
    return body.add("Div", above, body.add("Where", nothing, 1.0, below))
