"""Partial least squares and canonical correlation: skl2onnx has only PLSRegression, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def predictor(ops: Ops) -> None:
    """The targets, and the scores of X as a further method."""
    model, x = ops.model, ops.matrix()
    centred = ops.add("Sub", x, np.asarray(model._x_mean, dtype=np.float64))
    product = ops.add("MatMul", centred, _coefficients(model))
    ops.answer(0, ops.add("Add", product, np.asarray(model.intercept_, dtype=np.float64).reshape(-1)))
    if ops.wants("transform"):
        scaled = ops.add("Div", centred, np.asarray(model._x_std, dtype=np.float64))
        ops.answer_method("transform", ops.add("MatMul", scaled, np.asarray(model.x_rotations_, dtype=np.float64)))


def singular(ops: Ops) -> None:
    """The scores of X."""
    model, x = ops.model, ops.matrix()
    scaled = ops.add("Div", ops.add("Sub", x, model._x_mean), np.asarray(model._x_std, dtype=np.float64))
    ops.answer(0, ops.add("MatMul", scaled, np.asarray(model.x_weights_, dtype=np.float64)))


def _coefficients(model: Any) -> Any:
    """Shape (columns, targets), of what is centred and not scaled."""
    if hasattr(model, "_coef_warning"):  # scikit-learn 1.2 has them so, and of what is scaled
        return np.asarray(model._coef_, dtype=np.float64).T / np.asarray(model._x_std, dtype=np.float64)[:, None]
    return np.asarray(model.coef_, dtype=np.float64).T


def _targets(model: Any) -> int:
    return int(_coefficients(model).shape[1])


_MODULE = "sklearn.cross_decomposition."

RECIPES = (
    Recipe(
        tuple(_MODULE + name for name in ("PLSRegression", "PLSCanonical", "CCA")),
        "regressor",
        predictor,
        width=_targets,
        extra=lambda model: ("transform",),
    ),
    Recipe((_MODULE + "PLSSVD",), "transformer", singular, width=lambda model: int(model.x_weights_.shape[1])),
)
