"""Gaussian processes: skl2onnx has no classifier of several classes, and loses digits in its regressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import arithmetic, class_scores, kernels
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe

# sklearn.gaussian_process._gpc: the logistic function as a sum of five error functions.
LAMBDAS = (0.41, 0.4, 0.37, 0.44, 0.39)
COEFS = (-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654)


def regressor(ops: Ops) -> None:
    """The posterior's mean."""
    model, x = ops.model, ops.matrix()
    if not hasattr(model, "X_train_"):
        ops.answer(0, ops.for_each_row(np.zeros((1, _targets(model)))))
        return
    kernel = kernels.gaussian(ops, x, model.X_train_, model.kernel_)
    mean = ops.add("MatMul", kernel, np.asarray(model.alpha_, dtype=np.float64).reshape(len(model.alpha_), -1))
    scaled = ops.add("Mul", mean, np.asarray(model._y_train_std, dtype=np.float64).reshape(1, -1))
    ops.answer(0, ops.add("Add", scaled, np.asarray(model._y_train_mean, dtype=np.float64).reshape(1, -1)))


def classifier(ops: Ops) -> None:
    """The binary one, or those for each class or pair."""
    inner = ops.model.base_estimator_
    x = ops.matrix()
    binary = type(inner).__name__ == "_BinaryGaussianProcessClassifierLaplace"
    latents, probabilities = _laplace(ops, [inner] if binary else inner.estimators_, x)
    if binary:
        ops.answer(0, ops.class_of(class_scores.above(ops, latents)))
        ops.answer(1, class_scores.both(ops, probabilities))
    elif type(inner).__name__ == "OneVsRestClassifier":
        ops.answer(0, ops.class_of(ops.first_maximum(probabilities)))
        ops.answer(1, class_scores.shares(ops, probabilities))
    else:
        wins = ops.cast(ops.add("Greater", latents, np.float64(0.0)))
        scores = class_scores.ovr_of_ovo(ops, wins, probabilities, len(ops.model.classes_))
        ops.answer(0, ops.class_of(ops.first_maximum(scores)))
        ops.answer(1, scores)


def _laplace(ops: Ops, models: Sequence[Any], x: str) -> tuple[str, str]:
    """Of each binary model the latent mean and the probability of its second class, shape (rows, models)."""
    latents, variances = [], []
    for model in models:
        kernel = kernels.gaussian(ops, x, model.X_train_, model.kernel_)
        latents.append(ops.add("MatMul", kernel, np.asarray(model.y_train_ - model.pi_).reshape(-1, 1)))
        # solve(L, W_sr * k), with the triangle inverted here once.
        solver = np.linalg.solve(model.L_, np.diag(model.W_sr_))
        solved = ops.add("MatMul", kernel, solver.T)
        explained = ops.sum(ops.add("Mul", solved, solved), 1, keepdims=True)
        variances.append(ops.add("Sub", kernels.gaussian_diagonal(ops, x, model.kernel_), explained))
    latent, variance = (ops.add("Concat", *found, axis=1) for found in (latents, variances))
    # scikit-learn's five integrals, with alpha = 1 / (2 variance) put in, along a third axis.
    factors = np.array(LAMBDAS)
    below = ops.add("Add", ops.add("Mul", ops.add("Unsqueeze", variance, [2]), 2 * factors**2), np.float64(1.0))
    inner = ops.add("Div", ops.add("Mul", ops.add("Unsqueeze", latent, [2]), factors), ops.add("Sqrt", below))
    weighted = ops.sum(ops.add("Mul", erf(ops, inner), np.array(COEFS) / 2), 2)
    return latent, ops.add("Add", weighted, np.float64(0.5 * sum(COEFS)))


def erf(ops: Ops, name: str) -> str:
    """The error function in double, which onnxruntime has for float32 only; absolute error about 1e-16.

    W. J. Cody, Rational Chebyshev approximations for the error function, Mathematics of Computation 23 (1969).
    """
    size = ops.add("Abs", name)
    square = ops.add("Mul", name, name)
    small = ops.add("Mul", name, _quotient(ops, square, _NEAR))
    # Beyond 6 it is 1 to the last digit; the bound keeps exp and the polynomials finite.
    bounded = ops.add("Min", size, np.float64(6.0))
    decay = ops.add("Exp", ops.add("Neg", ops.add("Mul", bounded, bounded)))
    middle = ops.add("Mul", decay, _quotient(ops, bounded, _MIDDLE))
    inverse = ops.add("Div", np.float64(1.0), ops.add("Mul", bounded, bounded))
    series = ops.add("Mul", inverse, _quotient(ops, inverse, _FAR))
    far = ops.add("Mul", ops.add("Div", decay, bounded), ops.add("Sub", np.float64(1.0 / np.sqrt(np.pi)), series))
    rest = ops.add("Where", ops.add("LessOrEqual", size, np.float64(4.0)), middle, far)
    large = ops.add("Mul", ops.add("Sign", name), ops.add("Sub", np.float64(1.0), rest))
    return ops.add("Where", ops.add("LessOrEqual", size, np.float64(0.46875)), small, large)


def _quotient(ops: Ops, name: str, table: tuple[tuple[float, ...], tuple[float, ...]]) -> str:
    return ops.add("Div", *(arithmetic.polynomial(ops, name, coefficients) for coefficients in table))


_NEAR = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_FAR = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346725e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)


def _targets(model: Any) -> int:
    alpha = getattr(model, "alpha_", None)
    if alpha is None:
        return int(getattr(model, "n_targets", None) or 1)
    return 1 if alpha.ndim == 1 else int(alpha.shape[1])


_MODULE = "sklearn.gaussian_process."

RECIPES = (
    Recipe((_MODULE + "GaussianProcessRegressor",), "regressor", regressor, width=_targets),
    Recipe((_MODULE + "GaussianProcessClassifier",), "classifier", classifier),
)
