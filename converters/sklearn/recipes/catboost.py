"""CatBoost's estimators, for which neither skl2onnx nor onnxmltools has a converter.

CatBoost's own export to ONNX is exact, but answers a list of dictionaries, takes float32 only, and cannot be a step of
a pipeline.
"""

from __future__ import annotations

import math
from typing import Any

from converters.boosters import catboost
from converters.sklearn.recipes.writing import boosted_trees
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def classifier(ops: Ops) -> None:
    """The label and the probabilities; CatBoost finds the label by the scores."""
    boosted_trees.classifier(ops, catboost.read(ops.model), by_score=_logit(ops.model.get_probability_threshold()))


def regressor(ops: Ops) -> None:
    """What the estimator predicts: a ranker's scores, and the counts of a Poisson model."""
    boosted_trees.regressor(ops, catboost.read(ops.model))


def scores(ops: Ops) -> None:
    """What ``catboost.CatBoost`` itself predicts, whatever its loss."""
    boosted_trees.regressor(ops, catboost.without_link(catboost.read(ops.model.model)))


def _logit(threshold: float | None) -> float:
    return 0.0 if threshold is None else math.log(threshold / (1 - threshold))


def _width(model: Any) -> int:
    import numpy as np

    return int(np.size(model.get_scale_and_bias()[1]))


RECIPES = (
    Recipe(("catboost.CatBoostClassifier",), "classifier", classifier),
    Recipe(("catboost.CatBoostRegressor", "catboost.CatBoostRanker"), "regressor", regressor, _width),
    Recipe(("converters.boosters.native.CatBoostScores",), "regressor", scores, lambda model: _width(model.model)),
)
