"""How users ask the object that they saved: the second opinion on the estimator that stands for it in a conversion.

A bare booster answers another form than the estimator that it is read into, a search or a wrapper takes a data frame
with its own types. What is asked here is the saved object itself, by its own ``predict``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from converters.boosters.typed_columns import TypedColumns

Ask = Callable[[Any], Any]
METHODS = ("predict", "predict_proba", "decision_function", "transform", "score_samples")


def asks(saved: Any, model: Any) -> Mapping[str, Ask]:
    """By method of the estimator ``model``, how ``saved`` is asked for the same answer; ``model`` stands for it."""
    module, name = type(saved).__module__.split(".")[0], type(saved).__name__
    proba = hasattr(model, "predict_proba")
    if (module, name) == ("xgboost", "Booster"):
        method = _xgboost_method(saved, proba)
        return {method: lambda rows: _two_columns(_ask_xgboost(saved, rows), method == "predict_proba")}
    if (module, name) == ("lightgbm", "Booster"):
        return {"predict_proba" if proba else "predict": lambda rows: _two_columns(saved.predict(rows), proba)}
    if (module, name) == ("catboost", "CatBoost") and proba:
        return {"predict_proba": lambda rows: saved.predict(rows, prediction_type="Probability")}
    return {method: getattr(saved, method) for method in METHODS if hasattr(saved, method) and hasattr(model, method)}


def with_types(frame: Any, model: Any) -> Any:
    """A frame of plain columns as the user has it: with pandas' categories where a booster in ``model`` has them.

    Their order is that of the values found here; it is for the library to find those of the training.
    """
    typed = [step for _, step in getattr(model, "steps", ()) if isinstance(step, TypedColumns)]
    return frame.astype(dict.fromkeys(typed[0].categories, "category")) if typed else frame


def _ask_xgboost(booster: Any, rows: Any) -> Any:
    import numpy as np
    import xgboost

    names = booster.feature_names
    types = booster.feature_types
    if isinstance(rows, np.ndarray):
        return booster.predict(xgboost.DMatrix(rows, feature_names=names, feature_types=types, enable_categorical=True))
    return booster.predict(xgboost.DMatrix(rows, enable_categorical=True))


def _xgboost_method(booster: Any, proba: bool) -> str:
    """``multi:softmax`` answers classes; all other classifiers probabilities."""
    import json

    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    return "predict_proba" if proba and objective != "multi:softmax" else "predict"


def _two_columns(answer: Any, proba: bool) -> Any:
    """Probabilities of both classes, where a booster gives that of the second one only."""
    import numpy as np

    return np.column_stack([1 - answer, answer]) if proba and answer.ndim == 1 else answer
