"""Gaussian mixtures: the component, its probabilities, and the log-likelihood of each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def mixture(ops: Ops) -> None:
    """The likeliest component; ``_estimate_weighted_log_prob`` of scikit-learn's two mixtures."""
    model = ops.model
    joint = ops.add("Add", _log_densities(ops), _constants(model))
    ops.answer(0, ops.first_maximum(joint))
    ops.answer(1, class_scores.from_log_joint(ops, joint))
    ops.answer_method("score_samples", ops.add("ReduceLogSumExp", joint, [1], keepdims=1))


def _log_densities(ops: Ops) -> str:
    """-0.5 times the squared Mahalanobis distance to each component, shape (rows, components)."""
    model, x = ops.model, ops.matrix()
    norms = []
    for number, mean in enumerate(model.means_):
        difference = ops.add("Sub", x, mean)
        chol = _factor(model, number)
        turned = ops.add("MatMul" if chol.ndim == 2 else "Mul", difference, chol)
        norms.append(ops.sum(ops.add("Mul", turned, turned), 1, keepdims=True))
    joined = ops.add("Concat", *norms, axis=1) if len(norms) > 1 else norms[0]
    return ops.add("Mul", joined, np.float64(-0.5))


def _factor(model: Any, number: int) -> Any:
    chol = np.asarray(model.precisions_cholesky_, dtype=np.float64)
    if model.covariance_type == "tied":
        return chol
    return np.atleast_1d(chol[number])


def _constants(model: Any) -> Any:
    """What does not depend on the row, one number a component."""
    from scipy.special import digamma  # type: ignore[import-untyped]
    from sklearn.mixture._gaussian_mixture import _compute_log_det_cholesky

    features = model.means_.shape[1]
    determinant = _compute_log_det_cholesky(model.precisions_cholesky_, model.covariance_type, features)
    constants = model._estimate_log_weights() + determinant - 0.5 * features * np.log(2.0 * np.pi)
    if hasattr(model, "degrees_of_freedom_"):  # Bayesian: _estimate_log_prob
        degrees = model.degrees_of_freedom_
        log_lambda = features * np.log(2.0) + digamma(0.5 * (degrees - np.arange(features)[:, None])).sum(axis=0)
        constants = constants - 0.5 * features * np.log(degrees)
        constants = constants + 0.5 * (log_lambda - features / model.mean_precision_)
    return np.asarray(constants, dtype=np.float64) * np.ones(len(model.means_))


RECIPES = (
    Recipe(
        ("sklearn.mixture.GaussianMixture", "sklearn.mixture.BayesianGaussianMixture"),
        "mixture",
        mixture,
        extra=lambda model: ("score_samples",),
    ),
)
