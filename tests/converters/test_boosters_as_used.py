"""Boosters answer as their users ask them: on the table of the training, inside of other estimators, as a bare booster.

Every expected answer is the original's own to what it was trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from converters import Options
from converters.boosters import load
from converters.proof.samples import Table
from converters.sklearn import convert, sparse_input
from edgepack.errors import ConversionError
from tests.converters.support.booster_models import assert_equal, data, graph_answers, make, require

X, Y = data()
TWO = (np.median(Y) < Y).astype(int)


def _pickled(model: Any) -> Any:
    file = BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def _typed(texts: tuple[str, str, str] = ("Delft", "Gouda", "Leiden")) -> Any:
    """A table with columns of categories: whole numbers that are not their own codes, and text."""
    import pandas as pd

    random = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "zone": pd.Categorical(random.choice([10, 20, 30], len(X))),
            "size": np.nan_to_num(X[:, 0]),
            "town": pd.Categorical(random.choice(texts, len(X))),
        }
    )


def _by_category(frame: Any) -> Any:
    return ((frame["size"] > 0) ^ (frame["zone"].astype(int) == 20) ^ (frame["town"] == frame["town"][0])).astype(int)


def _categorical(package: str, kind: str = "Classifier") -> Any:
    return make(package, kind, **({"enable_categorical": True} if package == "xgboost" else {}))


WRAPPED: dict[str, Callable[[str], Any]] = {
    "alone": lambda package: _categorical(package),
    "pipeline": lambda package: Pipeline([("model", _categorical(package))]),
    "search": lambda package: GridSearchCV(_categorical(package), {"max_depth": [3]}, cv=2),
    "calibrated": lambda package: CalibratedClassifierCV(_categorical(package), cv=2),
    "voting": lambda package: VotingClassifier(
        [("a", _categorical(package)), ("b", _categorical(package))], voting="soft"
    ),
    "behind a scaler of the others": lambda package: Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [("size", StandardScaler(), ["size"])], remainder="passthrough", verbose_feature_names_out=False
                ).set_output(transform="pandas"),
            ),
            ("model", _categorical(package)),
        ]
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_categories_inside_of_wrappers_are_those_of_the_table(package: str, name: str) -> None:
    """The answers are the model's own to the table that it was trained on; the package gets what the table holds."""
    frame = _typed()
    fitted = WRAPPED[name](package).fit(frame, _by_category(frame))
    expected = fitted.predict_proba(frame)
    answers = graph_answers(fitted, frame.astype({"zone": int, "town": object}))
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)


def test_categories_that_xgboost_did_not_keep_are_refused(tmp_path: Path) -> None:
    """Its text is cut off where it is not ASCII, and before 3.1 it kept none: no row could be answered right."""
    frame = _typed(("Delft", "Gouda", "Zürich"))
    target = _by_category(frame)
    model = _categorical("xgboost").fit(frame, target)
    with pytest.raises(ConversionError, match=r"not ASCII \('town'\)"):
        load.adapt(Pipeline([("model", model)]))
    (xgboost,) = require("xgboost")
    document = json.loads(bytes(model.get_booster().save_raw("json")))
    document["learner"]["gradient_booster"]["model"]["cats"] = {"enc": [], "feature_segments": [], "sorted_idx": []}
    document["version"] = [2, 1, 4]
    old = tmp_path / "old.json"
    old.write_text(json.dumps(document))
    model.get_booster().load_model(bytearray(old.read_bytes()))
    booster = xgboost.Booster(model_file=str(old))
    for given in (lambda: load.adapt(model), lambda: load.adapt(booster), lambda: load.load_native(old)):
        with pytest.raises(ConversionError, match=r"trained on pandas categories \('zone', 'town'\).*before 3.1"):
            given()


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_the_way_out_of_lost_categories_converts(package: str) -> None:
    frame = _typed(("Delft", "Gouda", "Zürich")).astype({"zone": int, "town": object})
    target = _by_category(frame)
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("codes", encoder, ["zone", "town"])], remainder="passthrough")
    further = {"feature_types": ["c", "c", "q"]} if package == "xgboost" else {}
    fitting = {} if package == "xgboost" else {"model__categorical_feature": [0, 1]}
    model = _categorical(package).set_params(**further)
    pipeline = Pipeline([("columns", columns), ("model", model)]).fit(frame, target, **fitting)
    answers = graph_answers(pipeline, frame)
    np.testing.assert_allclose(answers["probabilities"], pipeline.predict_proba(frame), atol=1e-6)


def test_codes_that_the_user_gave_to_xgboost_stay_codes(tmp_path: Path) -> None:
    import pandas as pd

    x = pd.DataFrame({"size": np.nan_to_num(X[:, 0]), "code": np.random.default_rng(2).integers(0, 4, len(X))})
    model = make("xgboost", "Classifier", enable_categorical=True, feature_types=["q", "c"])
    model.fit(x, (x["code"] == 2).astype(int) ^ (x["size"] > 0))
    assert load.adapt(model) is model
    for ending in ("json", "ubj"):
        model.save_model(tmp_path / f"model.{ending}")
        assert not hasattr(load.load_native(tmp_path / f"model.{ending}"), "steps")


def test_lightgbm_keeps_categories_of_columns_that_were_of_no_use() -> None:
    """Of a column with one category it has no list of codes."""
    import pandas as pd

    frame = _typed()
    frame.insert(1, "only", pd.Categorical(["one"] * len(frame)))
    model = _categorical("lightgbm").fit(frame, _by_category(frame))
    adapted = load.adapt(model)
    plain = frame.astype({"zone": int, "town": object, "only": object})
    np.testing.assert_array_equal(adapted.predict_proba(plain), model.predict_proba(frame))


def test_a_bare_booster_answers_by_all_its_rounds(tmp_path: Path) -> None:
    """Only XGBoost's estimators stop at the best one by themselves."""
    (xgboost,) = require("xgboost")
    noise = np.random.default_rng(0).permutation(Y)
    rows, other = xgboost.DMatrix(X, Y), xgboost.DMatrix(X, noise)
    booster = xgboost.train({"eta": 0.5}, rows, 30, evals=[(other, "v")], early_stopping_rounds=3, verbose_eval=False)
    assert booster.best_iteration + 1 < booster.num_boosted_rounds()
    notes: list[str] = []
    found = [load.adapt(_pickled(booster), notes)]
    for ending in ("json", "ubj"):
        booster.save_model(tmp_path / f"model.{ending}")
        found.append(load.load_native(tmp_path / f"model.{ending}", notes))
    for model in found:
        np.testing.assert_array_equal(model.predict(X), booster.predict(rows))
        assert_equal(model, X)
    assert len([note for note in notes if "uses all" in note]) == 3
    best = booster[: booster.best_iteration + 1]
    np.testing.assert_array_equal(load.adapt(best).predict(X), best.predict(rows))
    estimator = make("xgboost", "Regressor", n_estimators=30, learning_rate=0.5, early_stopping_rounds=3)
    estimator.fit(X, Y, eval_set=[(X, noise)], verbose=False).save_model(tmp_path / "estimator.ubj")
    again = load.load_native(tmp_path / "estimator.ubj")
    np.testing.assert_array_equal(again.predict(X), estimator.predict(X))


@pytest.mark.parametrize("loss", ["Poisson", "Tweedie:variance_power=1.5", "RMSE"])
def test_catboosts_own_class_answers_scores(tmp_path: Path, loss: str) -> None:
    (catboost,) = require("catboost")
    usual = {"iterations": 5, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    model = catboost.CatBoost({"loss_function": loss, **usual}).fit(X, np.abs(Y).round())
    adapted = load.adapt(_pickled(model))
    np.testing.assert_array_equal(adapted.predict(X), model.predict(X))
    assert_equal(adapted, X)
    model.save_model(str(tmp_path / "model.cbm"))
    if loss == "RMSE":
        np.testing.assert_allclose(load.load_native(tmp_path / "model.cbm").predict(X), model.predict(X))
        return
    with pytest.raises(ConversionError, match="does not say whether CatBoostRegressor is to answer"):
        load.load_native(tmp_path / "model.cbm")


INSIDE: dict[str, Callable[[str], Any]] = {
    "voting": lambda package: VotingClassifier([("a", make(package, "Classifier")), ("b", BAYES)], voting="soft"),
    "stacking": lambda package: StackingClassifier([("a", make(package, "Classifier"))], BAYES, cv=2),
    "last of a stack": lambda package: StackingClassifier([("b", BAYES)], make(package, "Classifier"), cv=2),
    "calibrated": lambda package: CalibratedClassifierCV(make(package, "Classifier"), cv=2),
    "bag": lambda package: BaggingClassifier(make(package, "Classifier"), 2, max_features=2),
    "one against the rest": lambda package: OneVsRestClassifier(make(package, "Classifier")),
    "selection": lambda package: SelectFromModel(make(package, "Classifier")),
    "elimination": lambda package: make_pipeline(RFE(make(package, "Classifier"), n_features_to_select=2), BAYES),
}
BAYES = GaussianNB()


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("package", ["xgboost", "catboost"])
def test_inside_of_other_estimators_after_a_pickle(package: str, name: str) -> None:
    """Ensembles keep what they copied untrained, and CatBoost's pickles do not say how many columns they take."""
    import pandas as pd

    frame = pd.DataFrame(np.nan_to_num(X[:200, [0, 1, 3]]), columns=["a", "b", "c"])
    model = INSIDE[name](package).fit(frame.to_numpy(), TWO[:200])
    method = "predict_proba" if hasattr(model, "predict_proba") else "transform"
    answers = graph_answers(_pickled(model), frame)
    found = answers["probabilities"] if method == "predict_proba" else next(iter(answers.values()))
    np.testing.assert_allclose(found, getattr(model, method)(frame.to_numpy()), atol=1e-6)


SPARSE: dict[str, Callable[[], Any]] = {
    "one-hot": lambda: OneHotEncoder(),
    "columns": lambda: ColumnTransformer(
        [("c", OneHotEncoder(), ["town"])], remainder="passthrough", sparse_threshold=1
    ),
    "dense": lambda: OneHotEncoder(sparse_output=False),
}


@pytest.mark.parametrize("name", SPARSE)
def test_zeros_of_sparse_rows_are_missing_to_xgboost(name: str) -> None:
    frame = _typed().astype({"zone": int, "town": object}).drop(columns="size")
    frame["zone"] //= 10
    target = ((frame["zone"] == 2) ^ (frame["town"] == "Gouda")).astype(int)
    for model in (
        make_pipeline(SPARSE[name](), make("xgboost", "Classifier")),
        make_pipeline(SPARSE[name](), CalibratedClassifierCV(make("xgboost", "Classifier"), cv=2)),
        make_pipeline(SPARSE[name](), BaggingClassifier(make("xgboost", "Classifier"), 2)),
    ):
        expected = model.fit(frame, target).predict_proba(frame)
        np.testing.assert_allclose(graph_answers(model, frame)["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize("method", ["hist", "exact", "approx"])
def test_a_model_of_sparse_rows_is_told_from_one_of_whole_rows(method: str) -> None:
    """XGBoost does not keep which it was; the way that is named makes the zeros of a matrix missing."""
    import scipy.sparse

    x = np.where(np.random.default_rng(1).random((400, 5)) < 0.7, 0, np.abs(np.nan_to_num(X[:400])))
    y = x[:, 0] + (x[:, 1] == 0)
    dense = make("xgboost", "Regressor", tree_method=method).fit(x, y)
    assert not sparse_input.is_unknown(dense) or method == "exact"
    sparse = make("xgboost", "Regressor", tree_method=method).fit(scipy.sparse.csr_matrix(x), y)
    names = tuple(f"x{index}" for index in range(5))
    with pytest.raises(ConversionError, match=r"sparse matrix.*give --sample.*set_params\(missing=0\)"):
        sparse_input.doubts(sparse, None)
    assert "set_params(missing=0)" in sparse_input.doubts(sparse, Table(names, tuple(x.T)))[0]
    assert sparse_input.doubts(sparse, Table(names, tuple(np.where(x == 0, np.nan, x).T))) == []
    expected = sparse.predict(scipy.sparse.csr_matrix(x))
    assert np.abs(sparse.predict(x) - expected).max() > 0.01
    sparse.set_params(missing=0)
    assert sparse_input.doubts(sparse, None) == []
    np.testing.assert_array_equal(sparse.predict(x), expected)
    assert_equal(sparse, x)


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_a_column_of_categories_that_another_part_takes_as_numbers_is_refused(package: str) -> None:
    frame = _typed()[["zone", "size"]]
    pair = [("a", _categorical(package)), ("b", GaussianNB())]
    model = VotingClassifier(pair, voting="soft").fit(frame, frame["zone"] == 20)
    with pytest.raises(ConversionError, match="GaussianNB takes the column 'zone' as it is"):
        load.adapt(model)


def test_categories_of_truth_values_are_refused() -> None:
    import pandas as pd

    frame = _typed()
    frame["town"] = pd.Categorical(frame["town"] == "Delft")
    model = _categorical("lightgbm").fit(frame, frame["zone"] == 20)
    with pytest.raises(ConversionError, match="'town' are neither all text nor all numbers"):
        load.adapt(model)
    frame["town"] = frame["town"].astype(str).astype("category")
    assert hasattr(load.adapt(_categorical("lightgbm").fit(frame, frame["zone"] == 20)), "steps")


def test_regressors_of_lightgbm_3_answer() -> None:
    """Their pickles hold no number of classes, which version 4 compares."""
    model = make("lightgbm", "Regressor").fit(X, Y)
    expected = model.predict(X)
    model._n_classes = None
    with pytest.raises(TypeError):
        model.predict(X)
    np.testing.assert_array_equal(load.adapt(Pipeline([("model", model)])).predict(X), expected)


def _answers(path: Path, sample: Path | None = None) -> Any:
    return convert.convert(path, "sha256:0", Options(sample=sample))


def test_file_of_catboost_whose_loss_has_a_link_is_asked_back(tmp_path: Path) -> None:
    """CatBoostRegressor answers the exponential of what CatBoost answers, and the file fits both."""
    model = make("catboost", "Regressor", loss_function="Poisson").fit(X, np.abs(Y).round())
    model.save_model(str(tmp_path / "counts.cbm"))
    with pytest.raises(ConversionError, match="whether CatBoostRegressor") as caught:
        load.load_native(tmp_path / "counts.cbm")
    hint = caught.value.hint or ""
    (told,) = re.findall(r"(joblib\.dump\(.*\))", hint)
    exec(told.replace("'counts.cbm'", repr(str(tmp_path / "counts.cbm"))).replace("'model.joblib'", "file"), {  # noqa: S102
        "joblib": joblib, "CatBoostRegressor": type(model), "file": tmp_path / "model.joblib",
    })  # fmt: skip
    again = load.adapt(joblib.load(tmp_path / "model.joblib"))
    np.testing.assert_allclose(again.predict(X), model.predict(X))
    assert_equal(again, X)


def test_raw_scores_of_xgboost_start_as_this_version_starts_them() -> None:
    import xgboost

    parameters = {"objective": "binary:logitraw", "max_depth": 3}
    booster = xgboost.train(parameters, xgboost.DMatrix(X, TWO), 5)
    adapted = load.adapt(_pickled(booster))
    np.testing.assert_allclose(adapted.predict(X), booster.predict(xgboost.DMatrix(X)))
    assert_equal(adapted, X)


def test_ordered_categories_are_numbers_to_lightgbm() -> None:
    import pandas as pd

    frame = _typed()
    frame["town"] = pd.Categorical(frame["town"], categories=["Gouda", "Leiden", "Delft"], ordered=True)
    target = _by_category(frame.astype({"town": object}))
    model = make("lightgbm", "Classifier").fit(frame, target)
    plain = frame.astype({"zone": int, "town": object})
    found = graph_answers(_pickled(model), plain)["probabilities"]
    np.testing.assert_allclose(found, model.predict_proba(frame), atol=1e-6)
    frame["one"] = 1.0  # which might have had the categories as well
    with pytest.raises(ConversionError, match=r"does not keep which columns.*as_unordered"):
        load.adapt(make("lightgbm", "Classifier").fit(frame, target))
    frame["town"] = frame["town"].cat.as_unordered()
    assert hasattr(load.adapt(make("lightgbm", "Classifier").fit(frame, target)), "steps")


class Own:
    """An estimator of the user's that keeps its booster where no convention says."""

    def __init__(self, booster: Any) -> None:
        self.kept = {"of": [lambda: None, (booster,)]}

    def predict(self, x: Any) -> Any:
        return self.kept["of"][1][0].predict(x)


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_booster_on_categories_that_is_hidden_is_refused(package: str) -> None:
    frame = _typed()
    model = _categorical(package).fit(frame, frame["zone"] == 20)
    booster = model.get_booster() if package == "xgboost" else model.booster_
    with pytest.raises(ConversionError, match="inside of the Own was trained on pandas categories"):
        load.adapt(Own(booster))


def test_final_estimator_that_takes_categories_beside_a_booster_is_refused() -> None:
    frame = _typed()[["zone", "size"]]
    model = StackingClassifier([("a", _categorical("lightgbm"))], GaussianNB(), passthrough=True, cv=2)
    with pytest.raises(ConversionError, match="GaussianNB takes the column 'zone' as it is"):
        load.adapt(model.fit(frame, frame["zone"] == 20))


class Other:
    """Stands for an adapter that answers in another form than its user is answered."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.__dict__ |= {name: value for name, value in vars(model).items() if name.endswith("_")}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    def predict(self, x: Any) -> Any:
        return self.model.predict(x) * 1.01


def test_what_the_user_gets_is_asked_of_the_object_that_was_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a bare booster, an estimator of another meaning may stand for it: the booster itself has the last word."""
    import lightgbm
    import xgboost

    x = np.nan_to_num(X)
    made = {
        "x.joblib": xgboost.train({"max_depth": 2}, xgboost.DMatrix(x, Y), 3),
        "l.joblib": lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, Y), 3),
    }
    for name, booster in made.items():
        joblib.dump(booster, tmp_path / name)
        assert _answers(tmp_path / name).report["summary"]["passed"]
    real = load.adapt
    monkeypatch.setattr(load, "adapt", lambda *given: Other(real(*given)))
    for name in made:
        with pytest.raises(ConversionError, match=r"predict of the Booster answers \d+ of \d+ rows otherwise"):
            _answers(tmp_path / name)


def test_what_xgboost_says_has_no_time_of_day(tmp_path: Path) -> None:
    frame = _typed()
    model = _categorical("xgboost").fit(frame, frame["zone"] == 20)
    joblib.dump(model, tmp_path / "m.joblib")
    odd = _answers(tmp_path / "m.joblib").report["odd_inputs"]
    told = [entry["original"] for entry in odd.values() if "original" in entry]
    assert any("refuses" in text for text in told)
    assert not any(re.search(r"\d\d:\d\d:\d\d", text) for text in told)
