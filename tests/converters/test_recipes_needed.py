"""Each of our recipes is still needed: without it alone, some model of its kind does not convert as well as with it.

A recipe that the pinned skl2onnx no longer needs is to be deleted, and this test says so. "As well" is asked hard:
float64, rows on the thresholds and one unit in the last place beside them, every method of the original, single rows,
unusual inputs, and no label that differs.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from converters import Options
from converters.sklearn import common_rows, convert, recipes
from converters.sklearn.attempts import DOUBLE, SINGLE, Attempt
from converters.sklearn.loading import load
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError
from tests.converters.matrix import cases
from tests.converters.matrix.estimators import make
from tests.converters.support import booster_models
from tests.converters.support.harder_models import HARDER
from tests.converters.support.predictor_answers import to_onnx
from tests.support.sampling import WHOLE

# Sums of doubles in another order.
RTOL = 1e-9
# Our own classes, which stand for a part of another estimator while it is converted, and the libraries beside
# scikit-learn: skl2onnx does not know them.
UNKNOWN = ("converters.", "category_encoders.", "feature_engine.", "imblearn.")
ALL = [recipe for recipe in recipes.all_recipes() if not recipe.estimators[0].startswith(UNKNOWN)]
EVERY = 8
# skl2onnx calculates with whole numbers in float32, where scikit-learn does in float64.
OF_WHOLE_NUMBERS = {
    "ARDRegression",
    "GammaRegressor",
    "GaussianNB",
    "MaxAbsScaler",
    "MinMaxScaler",
    "RobustScaler",
    "StandardScaler",
}


def _name(recipe: Recipe) -> str:
    return recipe.estimators[0].rpartition(".")[2]


def _boosted(package: str, kind: str) -> Any:
    x, y = booster_models.data()
    return booster_models.make(package, kind).fit(x, y > y.mean() if kind == "Classifier" else y)


BOOSTERS = {"XGB": "xgboost", "LGBM": "lightgbm", "CatBoost": "catboost"}


@cache
def _matrix() -> dict[str, list[Callable[[], Any]]]:
    """By the name of an estimator how to fit it, plainly first."""
    found: dict[str, list[Callable[[], Any]]] = {}
    for case in cases.own():
        fit = case.fit
        found.setdefault(case.name.partition(",")[0], []).append(lambda fit=fit: fit().model)
    return found


def _models(recipe: Recipe) -> Iterator[Any]:
    """Fitted models that the recipe is for."""
    for dotted in recipe.estimators:
        name = dotted.rpartition(".")[2]
        booster = next((prefix for prefix in BOOSTERS if name.startswith(prefix)), None)
        if booster is not None:
            yield _boosted(BOOSTERS[booster], name.removeprefix(booster))
        for fit in (*HARDER.get(name, ()), *_matrix().get(name, ())):
            yield fit()


def _proven(model: Any, attempt: Attempt, folder: Path) -> convert.Proven:
    """The conversion by the recipes that are registered. Raises ``ConversionError``."""
    joblib.dump(model, folder / "m.joblib")
    original = load(folder / "m.joblib")
    return convert._prove(original, common_rows.gather(original, Options()), attempt, Options())


def _error(proven: convert.Proven) -> float:
    return max((proof.max_rel for proof in proven.proofs), default=0.0)


def _as_good(without: convert.Proven, with_it: convert.Proven) -> bool:
    methods = {answer.method for answer in with_it.outputs} - {answer.method for answer in without.outputs}
    faults = set(without.unusual.faults) - set(with_it.unusual.faults)
    labels = sum(proof.differing for proof in without.proofs) > sum(proof.differing for proof in with_it.proofs)
    worse = _error(without) > max(RTOL, 2 * _error(with_it))
    return not (methods or faults or labels or worse or without.row_wise != with_it.row_wise)


def _whole_numbers_differ(recipe: Recipe, registered: list[Recipe], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the graph of a matrix of int64 answers otherwise than the original, by the ``registered`` recipes."""
    from skl2onnx.common.data_types import Int64TensorType
    from sklearn.base import is_classifier

    module, _, name = recipe.estimators[0].partition(".")[2].rpartition(".")
    x = np.random.default_rng(0).integers(1 << 24, 1 << 30, (200, 3))
    model = make(f"{module}.{name}")
    model.fit(x, x[:, 1] % 3 if is_classifier(model) else x[:, 0] * 0.5)
    method = next(method for method in ("transform", "predict_proba", "predict") if hasattr(model, method))
    wanted = getattr(model, method)(x)
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "all_recipes", partial(iter, registered))
        outputs = to_onnx(model, [("X", Int64TensorType([None, 3]))]).run({"X": x})
    found = outputs[1 if method == "predict_proba" else 0]
    return not np.allclose(found.reshape(wanted.shape), wanted, rtol=RTOL, atol=0)


def is_needed(recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether some model is converted worse without the recipe, or not at all."""
    every = list(recipes.all_recipes())
    others = [other for other in every if other.estimators != recipe.estimators]
    if _name(recipe) in OF_WHOLE_NUMBERS:
        assert not _whole_numbers_differ(recipe, every, monkeypatch)
        return _whole_numbers_differ(recipe, others, monkeypatch)
    for model in _models(recipe):
        for attempt in (DOUBLE, SINGLE):
            without: convert.Proven | None = None
            with contextlib.suppress(ConversionError), monkeypatch.context() as patch:
                patch.setattr(recipes, "all_recipes", partial(iter, others))
                without = _proven(model, attempt, folder)
            if without is None and attempt == DOUBLE:
                return True
            try:
                with_it = _proven(model, attempt, folder)
            except ConversionError:
                continue  # float32 is not enough for this model, with the recipe or without it
            if without is None or not _as_good(without, with_it):
                return True
    return False


@pytest.mark.parametrize("recipe", ALL if WHOLE else ALL[::EVERY], ids=_name)
def test_recipe_is_still_needed(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings.simplefilter("ignore")
    assert is_needed(recipe, tmp_path, monkeypatch), "skl2onnx converts its models as well: delete it"


def test_recipe_that_skl2onnx_has_as_well_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings.simplefilter("ignore")
    (scaler,) = (recipe for recipe in ALL if _name(recipe) == "MaxAbsScaler")
    idle = Recipe(("sklearn.linear_model._none.Lasso",), scaler.kind, scaler.emit)
    models = list(_models(scaler))
    monkeypatch.setattr("tests.converters.test_recipes_needed._models", lambda recipe: models)
    assert not is_needed(idle, tmp_path, monkeypatch)
