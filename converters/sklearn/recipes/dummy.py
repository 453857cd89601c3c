"""Dummy predictors: skl2onnx has no converter for them. Random answers have no ONNX form."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.ops import Ops, classes
from converters.sklearn.recipes.writing.registry import Kind, Recipe
from edgepack.errors import ConversionError


def classifier(ops: Ops) -> None:
    """The same class and probabilities for every row, whatever its columns hold."""
    model = ops.model
    strategy = model.strategy
    if strategy in ("stratified", "uniform"):
        raise ConversionError(
            f"a dummy classifier with strategy={strategy!r} answers at random, which cannot be compared",
            hint="use strategy='prior', 'most_frequent' or 'constant'",
        )
    if not isinstance(model.classes_, list):
        chosen, shares = _answers(model, model.classes_, model.class_prior_, model.constant)
        ops.answer(0, ops.for_each_row(classes(model)[[chosen]]))
        ops.answer(1, ops.for_each_row(shares))
        return
    labels = []
    for number, known in enumerate(model.classes_):
        constant = None if model.constant is None else np.ravel(model.constant)[number]
        chosen, shares = _answers(model, known, model.class_prior_[number], constant)
        labels.append(known[chosen])
        ops.answer_method(f"predict_proba_{number}", ops.for_each_row(shares))
    label = np.array(labels)
    ops.answer(0, ops.for_each_row((label if label.dtype.kind in "OUS" else label.astype(np.int64))[None]))


def regressor(ops: Ops) -> None:
    """The same values for every row."""
    ops.answer(0, ops.for_each_row(np.asarray(ops.model.constant_, dtype=np.float64).reshape(1, -1)))


def _answers(model: Any, known: Any, prior: Any, constant: Any) -> tuple[int, Any]:
    if model.strategy == "constant":
        chosen = int(np.flatnonzero(known == np.ravel(constant)[0])[0])
    else:
        chosen = int(np.argmax(prior))
    shares = np.asarray(prior, dtype=np.float64) if model.strategy == "prior" else np.eye(len(known))[chosen]
    return chosen, shares[None]


def _kind(model: Any) -> Kind:
    return "multilabel" if isinstance(model.classes_, list) else "classifier"


def _extra(model: Any) -> tuple[str, ...]:
    several = isinstance(model.classes_, list)
    return tuple(f"predict_proba_{number}" for number in range(len(model.classes_))) if several else ()


RECIPES = (
    Recipe(("sklearn.dummy.DummyClassifier",), _kind, classifier, extra=_extra),
    Recipe(("sklearn.dummy.DummyRegressor",), "regressor", regressor, width=lambda model: int(model.n_outputs_)),
)
