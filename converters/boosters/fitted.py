"""Estimators of the boosters: whether they are trained, and what a pickle loses of them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

# Of a model that holds more objects than these, no further ones are looked at.
MOST_OBJECTS = 2_000_000


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


def trained_on_categories(model: Any) -> Iterator[Any]:
    """Every ``Booster`` of LightGBM or XGBoost in a model that keeps columns of pandas' categories, however it is held.

    This follows references, not what estimators say of their parts, so that none is overlooked.
    """
    seen: set[int] = set()
    waiting = [model]
    while waiting and len(seen) < MOST_OBJECTS:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, type | ModuleType | FunctionType | str | bytes):
            continue
        seen.add(id(current))
        module, name = type(current).__module__.split(".")[0], type(current).__name__
        if name != "Booster" or module not in ("lightgbm", "xgboost"):
            waiting.extend(gc.get_referents(current))
        elif module == "lightgbm":
            if current.pandas_categorical:
                yield current
        elif "c" in (current.feature_types or ()) and current.feature_names is not None:
            yield current
