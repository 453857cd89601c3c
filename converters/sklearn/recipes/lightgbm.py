"""LightGBM's estimators.

LightGBM compares doubles. onnxmltools writes its thresholds as float32, which moves rows next to one, and its
graphs do not load on float64.
"""

from __future__ import annotations

from converters.boosters import lightgbm
from converters.sklearn.recipes.writing import boosted_trees
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def classifier(ops: Ops) -> None:
    """The label and the probabilities, and the scores, which LightGBM 4.7 answers as ``decision_function``."""
    boosted_trees.classifier(ops, lightgbm.read(ops.model.booster_))


def regressor(ops: Ops) -> None:
    """What the booster predicts, a ranker's scores too."""
    boosted_trees.regressor(ops, lightgbm.read(ops.model.booster_))


RECIPES = (
    Recipe(
        ("lightgbm.LGBMClassifier", "converters.boosters.native.LightGBMClassifier"),
        "classifier",
        classifier,
        extra=lambda model: ("decision_function",) if hasattr(model, "decision_function") else (),
    ),
    Recipe(
        ("lightgbm.LGBMRegressor", "lightgbm.LGBMRanker", "converters.boosters.native.LightGBMRegressor"),
        "regressor",
        regressor,
        lambda model: int(model.booster_.num_model_per_iteration()),
    ),
)
