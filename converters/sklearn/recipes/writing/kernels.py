"""Kernel matrices between rows and a fixed set of points: scikit-learn's pairwise kernels, and Gaussian processes'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import distances
from converters.sklearn.recipes.writing.ops import Ops
from edgepack.errors import ConversionError


def pairwise(ops: Ops, x: str, points: Any, kernel: Any, given: Mapping[str, Any]) -> str:
    """The kernel of scikit-learn's name ``kernel``, with ``gamma``, ``degree`` and ``coef0`` as far as given.

    Shape (rows, points). A missing ``gamma`` is one over the number of features. Raises ``ConversionError`` for a
    kernel that is a function, or unsupported.
    """
    points = np.asarray(points.toarray() if hasattr(points, "toarray") else points, dtype=np.float64)
    gamma = given.get("gamma")
    gamma = 1.0 / points.shape[1] if gamma is None else float(gamma)
    coef0 = float(given.get("coef0", 1.0))
    if kernel == "linear":
        return ops.add("MatMul", x, points.T)
    if kernel in ("poly", "polynomial"):
        inner = _affine(ops, ops.add("MatMul", x, points.T), gamma, coef0)
        return ops.add("Pow", inner, np.float64(given.get("degree", 3)))
    if kernel == "sigmoid":
        return ops.add("Tanh", _affine(ops, ops.add("MatMul", x, points.T), gamma, coef0))
    if kernel == "rbf":
        return _decay(ops, distances.squared(ops, x, points), gamma)
    if kernel == "laplacian":
        return _decay(ops, distances.manhattan(ops, x, points), gamma)
    if kernel == "cosine":
        return distances.cosine(ops, x, points)
    if kernel == "chi2":
        return _decay(ops, distances.chi2(ops, x, points), 1.0 if given.get("gamma") is None else gamma)
    if kernel == "additive_chi2":
        return ops.add("Neg", distances.chi2(ops, x, points))
    name = kernel if isinstance(kernel, str) else getattr(kernel, "__name__", type(kernel).__name__)
    raise ConversionError(
        f"the kernel {name!r} has no ONNX form", hint="use a kernel such as 'linear', 'poly', 'rbf' or 'sigmoid'"
    )


def gaussian(ops: Ops, x: str, points: Any, kernel: Any) -> str:
    """A kernel of ``sklearn.gaussian_process.kernels`` between rows and training points, shape (rows, points).

    Raises ``ConversionError`` for an unsupported one.
    """
    points = np.asarray(points, dtype=np.float64)
    name = type(kernel).__name__
    if name in ("Sum", "Product"):
        parts = (gaussian(ops, x, points, part) for part in (kernel.k1, kernel.k2))
        return ops.add("Add" if name == "Sum" else "Mul", *parts)
    if name == "Exponentiation":
        return ops.add("Pow", gaussian(ops, x, points, kernel.kernel), np.float64(kernel.exponent))
    if name in ("ConstantKernel", "WhiteKernel"):
        # White noise is only on the training points' own diagonal.
        value = kernel.constant_value if name == "ConstantKernel" else 0.0
        rows = ops.add("Concat", ops.add("Shape", x, start=0, end=1), np.array([len(points)]), axis=0)
        return ops.add("Expand", ops.constant(np.full((1, 1), value)), rows)
    if name == "DotProduct":
        return ops.add("Add", ops.add("MatMul", x, points.T), np.float64(kernel.sigma_0**2))
    if name == "PairwiseKernel":
        parameters = {"gamma": kernel.gamma, **(kernel.pairwise_kernels_kwargs or {})}
        return pairwise(ops, x, points, kernel.metric, parameters)
    scale = 1.0 / np.asarray(getattr(kernel, "length_scale", 1.0), dtype=np.float64)
    if name == "RBF":
        return _decay(ops, _scaled(ops, x, points, scale), 0.5)
    if name == "RationalQuadratic":
        inner = _affine(ops, _scaled(ops, x, points, scale), 0.5 / kernel.alpha, 1.0)
        return ops.add("Pow", inner, np.float64(-kernel.alpha))
    if name == "ExpSineSquared":
        angle = ops.add(
            "Mul", ops.add("Sqrt", distances.squared(ops, x, points)), np.float64(np.pi / kernel.periodicity)
        )
        wave = ops.add("Mul", ops.add("Sin", angle), scale)
        return _decay(ops, ops.add("Mul", wave, wave), 2.0)
    if name == "Matern":
        return _matern(ops, _scaled(ops, x, points, scale), kernel.nu)
    raise ConversionError(
        f"the Gaussian process kernel {name} has no ONNX form", hint="use RBF, Matern, RationalQuadratic or their sums"
    )


def _matern(ops: Ops, square: str, nu: float) -> str:
    if nu == np.inf:
        return _decay(ops, square, 0.5)
    distance = ops.add("Sqrt", square)
    if nu == 0.5:
        return _decay(ops, distance, 1.0)
    if nu not in (1.5, 2.5):
        raise ConversionError(
            f"the Matern kernel with nu={nu:g} has no ONNX form", hint="use nu=0.5, 1.5, 2.5 or infinity"
        )
    scaled = ops.add("Mul", distance, np.float64(np.sqrt(2 * nu)))
    factor = ops.add("Add", scaled, np.float64(1.0))
    if nu == 2.5:
        third = ops.add("Mul", ops.add("Mul", scaled, scaled), np.float64(1.0 / 3.0))
        factor = ops.add("Add", factor, third)
    return ops.add("Mul", factor, _decay(ops, scaled, 1.0))


def _scaled(ops: Ops, x: str, points: Any, scale: Any) -> str:
    return distances.squared(ops, ops.add("Mul", x, scale), points * scale)


def _affine(ops: Ops, name: str, factor: float, summand: float) -> str:
    return ops.add("Add", ops.add("Mul", name, np.float64(factor)), np.float64(summand))


def _decay(ops: Ops, name: str, rate: float) -> str:
    return ops.add("Exp", ops.add("Mul", name, np.float64(-rate)))


def gaussian_diagonal(ops: Ops, x: str, kernel: Any) -> str:
    """A Gaussian process's kernel of each row with itself, shape (rows, 1)."""
    name = type(kernel).__name__
    if name in ("Sum", "Product"):
        parts = (gaussian_diagonal(ops, x, part) for part in (kernel.k1, kernel.k2))
        return ops.add("Add" if name == "Sum" else "Mul", *parts)
    if name == "Exponentiation":
        return ops.add("Pow", gaussian_diagonal(ops, x, kernel.kernel), np.float64(kernel.exponent))
    if name == "DotProduct":
        return ops.add("Add", ops.sum(ops.add("Mul", x, x), 1, keepdims=True), np.float64(kernel.sigma_0**2))
    if name == "PairwiseKernel":
        raise ConversionError(
            "a Gaussian process classifier with PairwiseKernel has no ONNX form", hint="use RBF, Matern or their sums"
        )
    value = {"ConstantKernel": "constant_value", "WhiteKernel": "noise_level"}.get(name)
    return ops.for_each_row(np.full((1, 1), 1.0 if value is None else float(getattr(kernel, value))))
