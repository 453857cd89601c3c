"""Estimators of the boosters: whether they are trained, and what a pickle loses of them."""

from __future__ import annotations

from typing import Any


def is_fitted_booster(model: Any) -> bool:
    """Whether a model is a trained estimator of one of the boosters' packages."""
    package = type(model).__module__.split(".")[0]
    if package == "xgboost":
        return hasattr(model, "get_booster") and getattr(model, "_Booster", None) is not None
    if package == "catboost":
        return hasattr(model, "get_cat_feature_indices") and bool(model.is_fitted())
    return hasattr(model, "booster_")


def restore(model: Any) -> None:
    """Give a trained estimator what its package's pickle does not keep, without which it fails in newer versions.

    CatBoost loses the number of its columns, which wrappers ask it for; regressors of LightGBM 3 have no number of
    classes, which version 4 compares.
    """
    if not is_fitted_booster(model):
        return
    if hasattr(model, "get_cat_feature_indices"):
        model._n_features_in = len(model.feature_names_)
    elif type(model).__module__.startswith("lightgbm.") and getattr(model, "_n_classes", -1) is None:
        model._n_classes = -1
