"""Kernel PCA, whose skl2onnx form answers NaN for a cosine with the origin, and maps that approximate a kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from converters.sklearn.recipes.decomposition import linear
from converters.sklearn.recipes.writing import kernels
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def nystroem(ops: Ops) -> None:
    """The kernel with the chosen training rows, times a matrix."""
    model = ops.model
    given = dict(model.kernel_params or {})
    given.update({name: value for name in ("gamma", "degree", "coef0") if (value := getattr(model, name)) is not None})
    kernel = kernels.pairwise(ops, ops.matrix(), model.components_, model.kernel, given)
    ops.answer(0, linear(ops, kernel, None, model.normalization_.T))


def kernel_pca(ops: Ops) -> None:
    """The kernel with the training rows, centred, times scaled eigenvectors."""
    model, kernel = ops.model, ops.matrix()
    if model.kernel != "precomputed":
        given = dict(model.kernel_params or {})
        given.update(gamma=getattr(model, "gamma_", model.gamma), degree=model.degree, coef0=model.coef0)
        kernel = kernels.pairwise(ops, kernel, model.X_fit_, model.kernel, given)
    ops.answer(0, kernel_components(ops, kernel, model))


def kernel_components(ops: Ops, kernel: str, model: Any) -> str:
    """A fitted KernelPCA's projection of a kernel that is given: centred, then times the scaled eigenvectors."""
    centerer = model._centerer
    centred = ops.add("Sub", kernel, np.asarray(centerer.K_fit_rows_, dtype=float)[None, :])
    mean = ops.add("ReduceMean", kernel, [1], keepdims=1)
    centred = ops.add("Add", ops.add("Sub", centred, mean), float(centerer.K_fit_all_))
    values = np.asarray(model.eigenvalues_, dtype=float)
    scaled = np.zeros(model.eigenvectors_.shape)
    some = values > 0
    scaled[:, some] = model.eigenvectors_[:, some] / np.sqrt(values[some])
    return linear(ops, centred, None, scaled)


def rbf_sampler(ops: Ops) -> None:
    """Cosines of random projections."""
    model = ops.model
    ops.answer(0, _cosines(ops, ops.matrix(), model))


def skewed_chi2_sampler(ops: Ops) -> None:
    """Cosines of random projections of the logarithm."""
    model = ops.model
    logarithm = ops.add("Log", ops.add("Add", ops.matrix(), float(model.skewedness)))
    ops.answer(0, _cosines(ops, logarithm, model))


def additive_chi2_sampler(ops: Ops) -> None:
    """Roots, and cosines and sines of the logarithm, of every value; all 0 for 0."""
    model, x = ops.model, ops.matrix()
    interval = model.sample_interval
    if interval is None:
        interval = {1: 0.8, 2: 0.5, 3: 0.4}[model.sample_steps]
    zero = ops.add("Equal", x, 0.0)
    logarithm = ops.add("Log", ops.add("Where", zero, 1.0, x))
    blocks = [ops.add("Sqrt", ops.add("Mul", x, float(interval)))]
    for step in range(1, model.sample_steps):
        height = 2.0 * interval / math.cosh(math.pi * step * interval)
        factor = ops.add("Sqrt", ops.add("Mul", x, height))
        angle = ops.add("Mul", logarithm, float(step * interval))
        blocks += [ops.add("Mul", factor, ops.add(wave, angle)) for wave in ("Cos", "Sin")]
    ops.answer(0, blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1))


def polynomial_count_sketch(ops: Ops) -> None:
    """The circular convolution of several sketches of the row, by products of their Fourier transforms."""
    model, x = ops.model, ops.matrix()
    count = int(model.n_components)
    scale, constant = math.sqrt(model.gamma), math.sqrt(model.coef0)
    angles = -2.0 * np.pi * np.outer(np.arange(count), np.arange(count) % count) % (2.0 * np.pi * count) / count
    real, imaginary = ops.constant(np.ones((1, 1))), ops.constant(np.zeros((1, 1)))
    for places, signs in zip(model.indexHash_, model.bitHash_, strict=True):
        sketch = np.zeros((len(places), count))
        sketch[np.arange(len(places)), places] = signs
        features = len(places) - (1 if model.coef0 != 0 else 0)
        # A last row of the sketch, where there is a constant, is what the constant adds.
        spectra = []
        for wave in (np.cos(angles), np.sin(angles)):
            matrix = sketch @ wave
            offset = matrix[features] * constant if features < len(places) else None
            spectra.append(linear(ops, x, None, matrix[:features] * scale, offset))
        here, there = spectra
        product = ops.add("Sub", ops.add("Mul", real, here), ops.add("Mul", imaginary, there))
        imaginary = ops.add("Add", ops.add("Mul", real, there), ops.add("Mul", imaginary, here))
        real = product
    back = ops.add(
        "Add", ops.add("MatMul", real, np.cos(angles) / count), ops.add("MatMul", imaginary, np.sin(angles) / count)
    )
    ops.answer(0, back)


def _cosines(ops: Ops, x: str, model: Any) -> str:
    angle = linear(ops, x, None, model.random_weights_, model.random_offset_)
    return ops.add("Mul", ops.add("Cos", angle), math.sqrt(2.0 / model.n_components))


_MODULE = "sklearn.kernel_approximation."

RECIPES = (
    Recipe(
        ("sklearn.decomposition.KernelPCA",),
        "transformer",
        kernel_pca,
        width=lambda model: int(model.eigenvectors_.shape[1]),
    ),
    Recipe((_MODULE + "Nystroem",), "transformer", nystroem, width=lambda model: len(model.normalization_)),
    Recipe((_MODULE + "RBFSampler",), "transformer", rbf_sampler, width=lambda model: int(model.n_components)),
    Recipe(
        (_MODULE + "SkewedChi2Sampler",),
        "transformer",
        skewed_chi2_sampler,
        width=lambda model: int(model.n_components),
    ),
    Recipe(
        (_MODULE + "AdditiveChi2Sampler",),
        "transformer",
        additive_chi2_sampler,
        width=lambda model: int(model.n_features_in_) * (2 * int(model.sample_steps) - 1),
    ),
    Recipe(
        (_MODULE + "PolynomialCountSketch",),
        "transformer",
        polynomial_count_sketch,
        width=lambda model: int(model.n_components),
    ),
)
