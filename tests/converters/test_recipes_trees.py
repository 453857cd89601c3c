"""Trees, forests, boosting and histogram boosting answer as scikit-learn does, on every threshold and around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    RandomTreesEmbedding,
    StackingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from converters import routes
from converters.graph import edits, forest
from converters.graph.session import Session
from converters.sklearn import recipes

# Relative and absolute differences: of sums of doubles, of doubles rounded to float32, and what is promised of a part
# that is no tree and calculates in float32 for itself.
EXACT, ROUNDED, PROMISED = (1e-9, 1e-12), (1e-6, 1e-7), (1e-4, 1e-5)
METHODS = ("predict_proba", "decision_function", "score_samples", "transform")
NOT_TREES = (LinearRegression, LogisticRegression, Ridge, LinearSVC)
RANDOM = 11
CANCER, WINE, DIABETES = (load(return_X_y=True) for load in (load_breast_cancer, load_wine, load_diabetes))


def _converted(model: Any, types: list[tuple[str, Any]]) -> Session:
    from skl2onnx import convert_sklearn
    from sklearn.base import is_classifier

    options = {id(model): {"zipmap": False}} if is_classifier(model) else None
    with recipes.registered(ours=True):
        made = convert_sklearn(model, initial_types=types, target_opset={"": 18, "ai.onnx.ml": 3}, options=options)
    forest.settle_opset(made)
    edits.check(made)
    return Session(edits.serialize(made))


def _matrix(model: Any, width: int, dtype: Any = np.float64) -> Session:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if dtype == np.float64 else FloatTensorType
    return _converted(model, [("X", kind([None, width]))])


def _equal(model: Any, session: Session, x: Any, feeds: dict[str, Any], within: tuple[float, float] = EXACT) -> None:
    """Every output of the graph beside the method that it stands for; labels to the letter."""
    found = dict(zip([port.name for port in session.outputs], session.run(feeds), strict=True))
    first = next(iter(found))
    label = found.pop(first)
    predicted = model.predict(x) if hasattr(model, "predict") else model.transform(x).toarray()
    if first.endswith("label"):
        assert label.shape == predicted.shape
        assert label.tolist() == predicted.tolist()
    else:
        np.testing.assert_allclose(label.reshape(predicted.shape), predicted, rtol=within[0], atol=within[1])
    for name, values in found.items():
        expected = _method(model, name, x)
        np.testing.assert_allclose(
            values.reshape(expected.shape), expected, rtol=within[0], atol=within[1], err_msg=name
        )
    if first.endswith("label") and hasattr(model, "predict_proba"):
        assert any(name.startswith(("probabilities", "predict_proba")) for name in found)


def _method(model: Any, output: str, x: Any) -> Any:
    if output.startswith("predict_proba_"):
        return model.predict_proba(x)[int(output.rsplit("_", 1)[1])]
    for method in METHODS:
        if output.startswith(method) or (output.startswith(("probabilities", "scores")) and hasattr(model, method)):
            return getattr(model, method)(x)
    raise AssertionError(output)


def _splits(model: Any, width: int) -> Iterator[tuple[int, float]]:
    """Every comparison of every tree inside, as the column of the model's own matrix and the threshold."""
    for part in routes.walk(model):
        if hasattr(part, "estimators_features_"):
            for inner, features in zip(part.estimators_, part.estimators_features_, strict=True):
                if hasattr(inner, "tree_"):
                    used = inner.tree_.feature >= 0
                    yield from zip(
                        np.asarray(features)[inner.tree_.feature[used]], inner.tree_.threshold[used], strict=True
                    )
        elif hasattr(part, "tree_"):
            used = part.tree_.feature >= 0
            yield from zip(part.tree_.feature[used], part.tree_.threshold[used], strict=True)
        elif hasattr(part, "nodes"):
            used = part.nodes["is_leaf"] == 0
            yield from zip(part.nodes["feature_idx"][used], part.nodes["num_threshold"][used], strict=True)


def _boundary_rows(model: Any, x: Any, most: int = 500) -> Any:
    """Rows of ``x`` with a value on a threshold or one ulp beside it, in float64 and in float32, through the scaler."""
    random = np.random.default_rng(RANDOM)
    splits = [(int(column), value) for column, value in set(_splits(model, x.shape[1])) if np.isfinite(value)]
    chosen = [splits[number] for number in random.permutation(len(splits))[:most]]
    made = [x[:1]]
    for column, threshold in chosen:
        single = np.float32(threshold)
        values = [threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf), single]
        values += [np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))]
        if hasattr(model, "steps"):
            scaler = model[0]
            full = np.zeros((len(values), x.shape[1]))
            full[:, column] = values
            back = scaler.inverse_transform(full)[:, column]
            near = back.astype(np.float32)
            values = [*back, *np.nextafter(back, np.inf), *np.nextafter(back, -np.inf)]
            values += [*np.nextafter(near, np.float32(np.inf)), *np.nextafter(near, np.float32(-np.inf))]
        block = x[random.integers(0, len(x), len(values))].copy()
        block[:, column] = values
        made.append(block)
    return np.vstack(made)


def _prove(model: Any, x: Any, dtype: Any = np.float64) -> None:
    """Clean rows, boundary rows, missing ones where the model takes them, and a batch of one."""
    session = _matrix(model, x.shape[1], dtype)
    within = EXACT if dtype == np.float64 else ROUNDED
    if any(type(part) in NOT_TREES for part in routes.walk(model)) and (dtype == np.float32 or hasattr(model, "init")):
        within = PROMISED
    for batch in (x, _boundary_rows(model, x)):
        given = batch.astype(dtype)
        _equal(model, session, given, {"X": given}, within)
        _equal(model, session, given[:1], {"X": given[:1]}, within)


def _with_missing(x: Any, y: Any = None) -> Any:
    """A tenth of the values gone, and of the first column where the target is high, so that being gone tells."""
    random = np.random.default_rng(RANDOM)
    x = x.copy()
    x[random.random(x.shape) < 0.1] = np.nan
    if y is not None:
        x[(y >= np.median(y)) & (random.random(len(x)) < 0.5), 0] = np.nan
    return x


CLASSIFIERS = [
    DecisionTreeClassifier(random_state=0),
    DecisionTreeClassifier(max_depth=3, class_weight="balanced", random_state=0),
    ExtraTreeClassifier(random_state=0),
    RandomForestClassifier(n_estimators=12, random_state=0),
    RandomForestClassifier(n_estimators=12, min_samples_leaf=5, random_state=0),
    ExtraTreesClassifier(n_estimators=12, max_depth=6, random_state=0),
    GradientBoostingClassifier(n_estimators=12, random_state=0),
    GradientBoostingClassifier(n_estimators=8, init="zero", subsample=0.7, random_state=0),
    GradientBoostingClassifier(
        n_estimators=8, init=RandomForestClassifier(3, max_depth=2, random_state=0), random_state=0
    ),
    HistGradientBoostingClassifier(max_iter=12, random_state=0),
    AdaBoostClassifier(n_estimators=10, random_state=0),
    AdaBoostClassifier(LogisticRegression(max_iter=200), n_estimators=4, random_state=0),
    BaggingClassifier(n_estimators=8, max_features=0.5, random_state=0),
    BaggingClassifier(LogisticRegression(max_iter=200), n_estimators=4, max_features=0.5, random_state=0),
    BaggingClassifier(LinearSVC(), n_estimators=4, bootstrap_features=True, random_state=0),
]
REGRESSORS = [
    DecisionTreeRegressor(random_state=0),
    ExtraTreeRegressor(random_state=0),
    RandomForestRegressor(n_estimators=12, random_state=0),
    RandomForestRegressor(n_estimators=12, criterion="absolute_error", max_depth=3, random_state=0),
    ExtraTreesRegressor(n_estimators=12, random_state=0),
    GradientBoostingRegressor(n_estimators=12, random_state=0),
    GradientBoostingRegressor(n_estimators=12, loss="huber", init="zero", random_state=0),
    GradientBoostingRegressor(n_estimators=12, loss="quantile", alpha=0.2, random_state=0),
    GradientBoostingRegressor(n_estimators=12, loss="absolute_error", init=Ridge(), random_state=0),
    HistGradientBoostingRegressor(max_iter=12, random_state=0),
    HistGradientBoostingRegressor(max_iter=12, loss="poisson", random_state=0),
    HistGradientBoostingRegressor(max_iter=12, loss="gamma", random_state=0),
    HistGradientBoostingRegressor(max_iter=12, loss="quantile", quantile=0.7, random_state=0),
    HistGradientBoostingRegressor(max_iter=12, loss="absolute_error", random_state=0),
    AdaBoostRegressor(n_estimators=10, random_state=0),
    AdaBoostRegressor(LinearRegression(), n_estimators=5, random_state=0),
    BaggingRegressor(n_estimators=8, max_features=0.5, random_state=0),
    BaggingRegressor(Ridge(), n_estimators=4, max_features=0.5, random_state=0),
]
TAKE_MISSING = [
    DecisionTreeClassifier(random_state=0),
    ExtraTreeClassifier(random_state=0),
    RandomForestClassifier(n_estimators=12, max_depth=7, random_state=0),
    ExtraTreesClassifier(n_estimators=12, max_depth=7, random_state=0),
    HistGradientBoostingClassifier(max_iter=12, random_state=0),
    BaggingClassifier(n_estimators=8, max_features=0.5, random_state=0),
    BaggingClassifier(RandomForestClassifier(3, max_depth=4), n_estimators=3, random_state=0),
]


def _name(model: Any) -> str:
    told = {
        key: value for key, value in model.get_params(deep=False).items() if value != type(model)().get_params()[key]
    }
    told = {key: value for key, value in told.items() if key not in ("n_estimators", "max_iter", "random_state")}
    return f"{type(model).__name__}{told or ''}"


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("model", CLASSIFIERS, ids=_name)
def test_classifiers_answer_alike_on_every_threshold(model: Any, dtype: Any) -> None:
    for x, y in (CANCER, WINE):
        x = x.astype(dtype).astype(np.float64)
        _prove(model.fit(x, y), x, dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("model", REGRESSORS, ids=_name)
def test_regressors_answer_alike_on_every_threshold(model: Any, dtype: Any) -> None:
    x, y = DIABETES
    x = x.astype(dtype).astype(np.float64)
    _prove(model.fit(x, y), x, dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), RobustScaler()], ids=_name)
@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeClassifier(random_state=0),
        RandomForestClassifier(n_estimators=12, random_state=0),
        GradientBoostingClassifier(n_estimators=12, random_state=0),
        HistGradientBoostingClassifier(max_iter=12, random_state=0),
    ],
    ids=_name,
)
def test_behind_a_scaler_no_row_comes_to_another_leaf(scaler: Any, model: Any, dtype: Any) -> None:
    # Times in seconds since 1970 need more digits than float32 has.
    x = CANCER[0].copy()
    x[:, 0] = 1.6e9 + x[:, 0] * 1e5
    x = x.astype(dtype)
    _prove(make_pipeline(scaler, model).fit(x, CANCER[1]), x.astype(np.float64), dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("model", TAKE_MISSING, ids=_name)
def test_missing_values_take_the_branch_that_was_learnt(model: Any, dtype: Any) -> None:
    x, y = CANCER
    x = _with_missing(x, y).astype(dtype).astype(np.float64)
    _prove(model.fit(x, y), x, dtype)
    if model.__class__.__name__ != "BaggingClassifier":
        _prove(make_pipeline(StandardScaler(), model).fit(x, y), x)


def test_missing_values_of_regressors_take_the_branch_that_was_learnt() -> None:
    x, y = _with_missing(*DIABETES), DIABETES[1]
    for model in (RandomForestRegressor(10, random_state=0), HistGradientBoostingRegressor(max_iter=10)):
        _prove(model.fit(x, y), x)


@pytest.mark.parametrize(
    "names", [["benign", "malign"], [False, True], [7, -3]], ids=["text", "truth", "whole numbers"]
)
def test_labels_are_the_users_own_classes(names: list[Any]) -> None:
    x, y = CANCER
    for model in (
        RandomForestClassifier(5, random_state=0),
        GradientBoostingClassifier(n_estimators=5),
        HistGradientBoostingClassifier(max_iter=5),
        AdaBoostClassifier(n_estimators=5),
        AdaBoostClassifier(LogisticRegression(max_iter=200), n_estimators=3),
        BaggingClassifier(n_estimators=5),
    ):
        _prove(model.fit(x, np.array(names)[y]), x)


def test_several_targets_at_once() -> None:
    x, y = DIABETES
    targets = np.column_stack([y, -y, x[:, 0]])
    for model in (DecisionTreeRegressor(max_depth=5), RandomForestRegressor(8, random_state=0), ExtraTreesRegressor(8)):
        _prove(model.fit(x, targets), x)
    x, y = WINE
    labels = np.column_stack([y, y == 1])
    for model in (DecisionTreeClassifier(max_depth=2), RandomForestClassifier(8, max_depth=3, random_state=0)):
        _prove(model.fit(x, labels), x)


def test_a_forest_of_single_leaves_answers_its_mean() -> None:
    x = np.zeros((20, 2))
    y = np.arange(20.0)
    _equal_single(RandomForestRegressor(5, random_state=0).fit(x, y), x)
    _equal_single(HistGradientBoostingRegressor(max_iter=3).fit(x, y), x)
    _equal_single(GradientBoostingClassifier(n_estimators=3).fit(x, y > 11), x)


def _equal_single(model: Any, x: Any) -> None:
    _equal(model, _matrix(model, x.shape[1]), x, {"X": x})


def test_isolation_forests_score_by_depth_with_and_without_missing_values() -> None:
    x = CANCER[0]
    for given in (x, _with_missing(x)):
        for features in (1.0, 0.4):
            _prove(IsolationForest(n_estimators=15, max_features=features, random_state=0).fit(given), given)
    _prove(IsolationForest(n_estimators=15, contamination=0.1, random_state=0).fit(x), x, np.float32)


def test_a_random_trees_embedding_marks_the_leaf_of_each_tree() -> None:
    x = WINE[0]
    _prove(RandomTreesEmbedding(n_estimators=7, max_depth=3, random_state=0).fit(x), x)


def test_trees_serve_inside_other_ensembles() -> None:
    x, y = DIABETES
    parts = [
        ("forest", RandomForestRegressor(5, random_state=0)),
        ("histogram", HistGradientBoostingRegressor(max_iter=5)),
    ]
    _prove(VotingRegressor(parts).fit(x, y), x)
    x, y = CANCER
    kinds = [("forest", RandomForestClassifier(5, random_state=0)), ("tree", DecisionTreeClassifier(max_depth=3))]
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    _prove(StackingClassifier(kinds, final_estimator=scaled, cv=3).fit(x, y), x)


def _categorical_data(count: int) -> tuple[Any, Any]:
    random = np.random.default_rng(RANDOM)
    x = np.column_stack(
        [random.integers(0, count, 800) * 3.0 - 5, random.standard_normal(800), random.integers(0, 9, 800)]
    )
    effect = random.standard_normal(count)
    return x, effect[((x[:, 0] + 5) / 3).astype(int)] + x[:, 1] + 0.1 * x[:, 2] > 0


@pytest.mark.parametrize("count", [4, 40, 250])
@pytest.mark.parametrize("gone", [False, True], ids=["complete", "with missing"])
def test_categories_in_a_matrix_go_by_their_sets_and_unknown_ones_as_missing(count: int, gone: bool) -> None:
    x, y = _categorical_data(count)
    if gone:
        x = _with_missing(x)
    model = HistGradientBoostingClassifier(max_iter=15, categorical_features=[0, 2], min_samples_leaf=3).fit(x, y)
    session = _matrix(model, 3)
    unknown = x.copy()
    unknown[::3, 0] = np.resize([-6, 0.5, 1e9, -1e9, 2000, 1.0000000001], len(unknown[::3]))
    unknown[::4, 2] = np.resize([-1, 77, 3.5, np.nan], len(unknown[::4]))
    for batch in (x, unknown, unknown[:1]):
        _equal(model, session, batch, {"X": batch})


def test_categories_that_are_text_by_column() -> None:
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType

    random = np.random.default_rng(RANDOM)
    frame = pd.DataFrame(
        {
            "size": random.standard_normal(600),
            "town": pd.Categorical(random.choice(["Zürich", "Bern", "Genf", "Basel"], 600)),
            "floor": random.integers(0, 7, 600),
        }
    )
    y = frame["size"] + (frame["town"] == "Bern") * 2.0 + np.array([0, 5, 1, 4, 2, 3, 0])[frame["floor"]]
    model = HistGradientBoostingRegressor(max_iter=15, categorical_features=["town", "floor"]).fit(frame, y)
    types = [
        ("size", DoubleTensorType([None, 1])),
        ("town", StringTensorType([None, 1])),
        ("floor", Int64TensorType([None, 1])),
    ]
    session = _converted(model, types)
    frame["town"] = frame["town"].astype(object)
    frame.loc[::5, "town"] = "Unknown"
    frame.loc[::7, "floor"] = 99
    feeds = {name: frame[name].to_numpy().reshape(-1, 1) for name in frame.columns}
    _equal(model, session, frame, feeds)
