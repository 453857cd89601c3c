"""Kernel ridge regression: skl2onnx has no converter for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import kernels
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def kernel_ridge(ops: Ops) -> None:
    """A weighted sum of kernels with the training rows."""
    model, x = ops.model, ops.matrix()
    if model.kernel == "precomputed":
        kernel = x
    else:
        given = {"gamma": model.gamma, "degree": model.degree, "coef0": model.coef0}
        kernel = kernels.pairwise(ops, x, model.X_fit_, model.kernel, given)
    ops.answer(
        0, ops.add("MatMul", kernel, np.asarray(model.dual_coef_, dtype=np.float64).reshape(len(model.X_fit_), -1))
    )


def _width(model: Any) -> int:
    return 1 if model.dual_coef_.ndim == 1 else int(model.dual_coef_.shape[1])


RECIPES = (Recipe(("sklearn.kernel_ridge.KernelRidge",), "regressor", kernel_ridge, width=_width),)
