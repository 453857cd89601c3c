"""Searches and other wrappers that answer whatever one fitted estimator inside of them answers."""

from __future__ import annotations

from converters.sklearn.recipes.writing.registry import delegating

_MODULE = "sklearn.model_selection."

RECIPES = (
    delegating(
        (
            _MODULE + "GridSearchCV",
            _MODULE + "RandomizedSearchCV",
            "sklearn.model_selection._search_successive_halving.HalvingGridSearchCV",
            "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV",
        ),
        lambda model: model.best_estimator_,
    ),
    delegating(("sklearn.frozen.FrozenEstimator",), lambda model: model.estimator),
    # Its part has another name up to 1.5.
    delegating(
        ("sklearn.semi_supervised.SelfTrainingClassifier",),
        lambda model: model.estimator_ if hasattr(model, "estimator_") else model.base_estimator_,
    ),
)
