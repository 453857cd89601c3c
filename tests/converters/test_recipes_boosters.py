"""Boosters answer from ONNX what they answer themselves: every objective and kind of tree, alone and inside of others.

The packages have no converter in skl2onnx, and onnxmltools' graphs do not load on float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier, VotingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from converters.boosters import load
from edgepack.errors import ConversionError
from tests.converters.support.booster_models import assert_equal, data, make, require, session

X, Y = data()
TWO, THREE = (np.median(Y) < Y).astype(int), np.digitize(Y, np.quantile(Y, [0.3, 0.6]))
TEXT = np.array(["low", "mid", "high"])[THREE]
COUNTS = np.clip(Y, 0, None).round()
ALL = ("xgboost", "lightgbm", "catboost")


@pytest.mark.parametrize("package", ALL)
@pytest.mark.parametrize("classes", [TWO, THREE], ids=["two", "three"])
def test_classifiers_agree_on_every_row(package: str, classes: Any) -> None:
    assert_equal(make(package, "Classifier").fit(X, classes), X)


@pytest.mark.parametrize("package", ALL)
def test_regressors_agree_where_large_values_cancel(package: str) -> None:
    # Added in double, XGBoost's scores near zero would be off by more than 1e-4.
    centred = (Y - Y.mean()) * 1e6
    model = make(package, "Regressor", **({} if package == "catboost" else {"n_estimators": 60})).fit(X, centred)
    assert_equal(model, X, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("package", ["lightgbm", "catboost"])
def test_text_labels_are_answered(package: str) -> None:
    assert_equal(make(package, "Classifier").fit(X, TEXT), X)


@pytest.mark.parametrize("package", ALL)
def test_behind_a_scaler_everything_stays_double(package: str) -> None:
    assert_equal(make_pipeline(StandardScaler(), make(package, "Classifier")).fit(X, THREE), X)


@pytest.mark.parametrize("package", ALL)
def test_inside_of_ensembles(package: str) -> None:
    linear = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    pair = [("a", make(package, "Classifier")), ("b", linear)]
    for model in (
        VotingClassifier(pair, voting="soft"),
        StackingClassifier(pair, LogisticRegression(), cv=2),
        CalibratedClassifierCV(make(package, "Classifier"), cv=2),
    ):
        assert_equal(model.fit(X, THREE), X)
    numbers = [("a", make(package, "Regressor")), ("b", make_pipeline(SimpleImputer(), LinearRegression()))]
    assert_equal(VotingRegressor(numbers).fit(X, Y), X)


XGBOOST: dict[str, tuple[str, dict[str, Any], Any]] = {
    "missing is zero": ("Classifier", {"missing": 0.0}, THREE),
    "dart": ("Classifier", {"booster": "dart", "rate_drop": 0.3}, THREE),
    "softmax": ("Classifier", {"objective": "multi:softmax"}, THREE),
    "hinge": ("Classifier", {"objective": "binary:hinge"}, TWO),
    "random forest": ("RFClassifier", {}, THREE),
    "pruned": ("Classifier", {"gamma": 3, "tree_method": "exact"}, TWO),
    "poisson": ("Regressor", {"objective": "count:poisson"}, COUNTS),
    "tweedie": ("Regressor", {"objective": "reg:tweedie"}, COUNTS),
    "gamma": ("Regressor", {"objective": "reg:gamma"}, np.exp(Y / 3)),
    "logistic": ("Regressor", {"objective": "reg:logistic"}, TWO),
    "quantiles": ("Regressor", {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5]}, Y),
    "several targets": ("Regressor", {}, np.stack([Y, -Y], 1)),
    "vector leaves": ("Regressor", {"multi_strategy": "multi_output_tree"}, np.stack([Y, -Y], 1)),
}


@pytest.mark.parametrize("name", XGBOOST)
def test_xgboost(name: str) -> None:
    kind, parameters, target = XGBOOST[name]
    x = X if name != "missing is zero" else np.nan_to_num(X)
    assert_equal(make("xgboost", kind, **parameters).fit(x, target), X)


LIGHTGBM: dict[str, tuple[str, dict[str, Any], Any]] = {
    "zero is missing": ("Classifier", {"zero_as_missing": True}, THREE),
    "nothing is missing": ("Classifier", {"use_missing": False}, THREE),
    "one against all": ("Classifier", {"objective": "multiclassova", "sigmoid": 1.7}, THREE),
    "random forest": ("Classifier", {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1}, THREE),
    "poisson": ("Regressor", {"objective": "poisson"}, COUNTS),
    "cross entropy": ("Regressor", {"objective": "cross_entropy"}, TWO.astype(float)),
    "cross entropy lambda": ("Regressor", {"objective": "cross_entropy_lambda"}, TWO.astype(float)),
    "square root": ("Regressor", {"reg_sqrt": True}, Y),
}


@pytest.mark.parametrize("name", LIGHTGBM)
def test_lightgbm(name: str) -> None:
    kind, parameters, target = LIGHTGBM[name]
    x = X.copy()
    x[::3, 3] = 0
    assert_equal(make("lightgbm", kind, **parameters).fit(x, target), x, rtol=1e-12, atol=1e-14)


CATBOOST: dict[str, tuple[str, dict[str, Any], Any]] = {
    "missing is largest": ("Classifier", {"nan_mode": "Max"}, THREE),
    "one against all": ("Classifier", {"loss_function": "MultiClassOneVsAll"}, THREE),
    "no level alike": ("Classifier", {"grow_policy": "Depthwise"}, THREE),
    "poisson": ("Regressor", {"loss_function": "Poisson"}, COUNTS),
    "several targets": ("Regressor", {"loss_function": "MultiRMSE"}, np.stack([Y, -Y], 1)),
}


@pytest.mark.parametrize("name", CATBOOST)
def test_catboost(name: str) -> None:
    kind, parameters, target = CATBOOST[name]
    assert_equal(make("catboost", kind, **parameters).fit(X, target), X, rtol=1e-12, atol=1e-14)


def test_catboost_keeps_the_threshold_that_was_set() -> None:
    model = make("catboost", "Classifier").fit(X, TWO)
    before = model.predict(X)
    model.set_probability_threshold(0.2)
    assert (model.predict(X) != before).any()
    assert_equal(model, X)


def test_early_stopping_stops_the_graph_too() -> None:
    random = np.random.default_rng(0).permutation(TWO)
    model = make("xgboost", "Classifier", n_estimators=60, early_stopping_rounds=2)
    model.fit(X, TWO, eval_set=[(X, random)], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    assert_equal(model, X)
    (lightgbm,) = require("lightgbm")
    other = make("lightgbm", "Classifier", n_estimators=60)
    other.fit(X, TWO, eval_set=[(X, random)], callbacks=[lightgbm.early_stopping(2, verbose=False)])
    assert_equal(other, X)


@pytest.mark.parametrize("one_hot", [1, 100], ids=["sets", "one by one"])
@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_unusual_categorical_codes(package: str, one_hot: int) -> None:
    x = X.copy()
    x[:, 3] = np.random.default_rng(1).integers(0, 40, len(x))
    target = ((x[:, 3] % 7 > 2) ^ (np.nan_to_num(x[:, 0]) > 0)).astype(int)
    if package == "xgboost":
        kinds = ["q", "q", "q", "c", "q"]
        model = make(package, "Classifier", feature_types=kinds, enable_categorical=True, max_cat_to_onehot=one_hot)
        model.fit(x, target)
    else:
        model = make(package, "Classifier", max_cat_to_onehot=one_hot, min_data_per_group=5)
        model.fit(x, target, categorical_feature=[3])
    assert load.codes(model)[3]
    unusual = np.repeat(x[:20], 9, axis=0)
    unusual[:, 3] = np.tile([-1, -0.5, -0.0, 2.7, 39, 40, 3e9, 2.0**32 + 1, np.nan], 20)
    assert_equal(model, np.vstack([x, unusual]))


def test_equal_leaves_at_the_end_of_a_chain_of_categories() -> None:
    """onnxruntime takes such nodes for one, and adds up two leaves of one tree."""
    random = np.random.default_rng(3)
    x = random.normal(size=(400, 2))
    x[:, 1] = random.integers(0, 12, 400)
    target = ((x[:, 1] % 5 > 2) ^ (x[:, 0] > 0)).astype(int)
    kinds = {"feature_types": ["q", "c"], "enable_categorical": True, "max_cat_to_onehot": 100}
    model = make("xgboost", "Classifier", n_estimators=1, max_depth=3, **kinds).fit(x, target)
    assert_equal(model, x)


def test_scores_of_rankers() -> None:
    groups = [80] * 10
    assert_equal(make("xgboost", "Ranker").fit(X, THREE, qid=np.repeat(range(10), 80)), X)
    assert_equal(make("lightgbm", "Ranker").fit(X, THREE, group=groups), X)
    assert_equal(make("catboost", "Ranker").fit(X, THREE / 2, group_id=np.repeat(range(10), 80)), X)


def test_linear_booster_leaves_missing_values_out() -> None:
    x = (X - np.nanmean(X, 0)) / np.nanstd(X, 0)
    assert_equal(make("xgboost", "Classifier", booster="gblinear", n_estimators=5, max_depth=None).fit(x, THREE), x)


def test_several_labels_of_xgboost() -> None:
    several = np.stack([TWO, THREE > 1], 1).astype(int)
    model = make("xgboost", "Classifier").fit(X, several)
    label, probabilities = session(model, X.shape[1]).run(None, {"X": X})
    np.testing.assert_array_equal(label, model.predict(X))
    np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=2e-6)


def test_what_cannot_be_converted_says_why() -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": np.nan_to_num(X[:, 0]), "town": np.where(X[:, 1] > 5e3, "Delft", "Gouda")})
    by_text = make("catboost", "Classifier").fit(frame, TWO, cat_features=["town"])
    with pytest.raises(ConversionError, match=r"'town'.*hashes"):
        load.adapt(by_text)
    with pytest.raises(ConversionError, match="linear trees"):
        load.read(make("lightgbm", "Regressor", linear_tree=True).fit(X, Y))
    own = make("lightgbm", "Regressor", objective=lambda truth, found: (found - truth, np.ones_like(found)))
    with pytest.raises(ConversionError, match="of the user's own"):
        load.read(own.fit(X, Y))
    with pytest.raises(ConversionError, match="RMSEWithUncertainty"):
        load.read(make("catboost", "Regressor", loss_function="RMSEWithUncertainty").fit(X, Y))
