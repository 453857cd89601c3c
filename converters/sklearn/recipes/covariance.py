"""Outliers of a robust covariance: skl2onnx has no converter for them."""

from __future__ import annotations

import numpy as np

from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def elliptic_envelope(ops: Ops) -> None:
    """Inside (1) where the Mahalanobis distance is not above the offset, else outside (-1)."""
    model, x = ops.model, ops.matrix()
    difference = ops.add("Sub", x, np.asarray(model.location_, dtype=np.float64))
    product = ops.add("MatMul", difference, np.asarray(model.get_precision(), dtype=np.float64))
    samples = ops.add("Neg", ops.sum(ops.add("Mul", product, difference), 1, keepdims=True))
    scores = ops.add("Sub", samples, np.float64(model.offset_))
    inside = ops.add("GreaterOrEqual", scores, np.float64(0.0))
    ops.answer(0, ops.reshape(ops.add("Where", inside, ops.constant(1), ops.constant(-1)), [-1]))
    ops.answer(1, scores)
    ops.answer_method("score_samples", samples)


RECIPES = (
    Recipe(
        ("sklearn.covariance.EllipticEnvelope",), "outlier", elliptic_envelope, extra=lambda model: ("score_samples",)
    ),
)
