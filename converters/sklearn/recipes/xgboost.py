"""XGBoost's estimators.

onnxmltools' converter is exact on float32 input, but its graphs do not load on float64, where everything in front of
the booster has to be double; it also refuses missing values other than NaN, and supports neither dart's weights nor
linear boosters.
"""

from __future__ import annotations

import json
from typing import Any

from converters.boosters import xgboost
from converters.sklearn.recipes.writing import boosted_trees
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Kind, Recipe


def _scores(model: Any) -> int:
    """How many scores the booster has; more than one for several classes or several targets."""
    facts = json.loads(model.get_booster().save_config())["learner"]["learner_model_param"]
    return max(int(facts["num_class"]), int(facts.get("num_target", "1")), 1)


def _kind(model: Any) -> Kind:
    return "multilabel" if model.n_classes_ == 2 and _scores(model) > 1 else "classifier"


def classifier(ops: Ops) -> None:
    """The label and the probabilities; of several targets at once a label each, and the matrix of probabilities."""
    boosted = xgboost.read_estimator(ops.model)
    if _kind(ops.model) == "classifier":
        boosted_trees.classifier(ops, xgboost.with_probabilities(boosted))
        return
    probabilities = boosted_trees.linked(ops, boosted, boosted_trees.scores(ops, boosted))
    ops.answer(0, ops.cast(ops.add("Greater", probabilities, ops.constant(0.5, "float64")), boosted_trees.INT64))
    ops.answer_method("predict_proba", ops.cast(probabilities))


def regressor(ops: Ops) -> None:
    """What the booster predicts, a ranker's scores too."""
    boosted_trees.regressor(ops, xgboost.read_estimator(ops.model))


RECIPES = (
    Recipe(
        ("xgboost.XGBClassifier", "xgboost.XGBRFClassifier"),
        _kind,
        classifier,
        extra=lambda model: ("predict_proba",) if _kind(model) == "multilabel" else (),
    ),
    Recipe(("xgboost.XGBRegressor", "xgboost.XGBRFRegressor", "xgboost.XGBRanker"), "regressor", regressor, _scores),
)
