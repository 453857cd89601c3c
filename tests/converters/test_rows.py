"""Rows are made of what a fitted model tells: its ranges, categories, training points, and every threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingRegressor, RandomForestClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import CategoricalNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from converters.proof.samples import Table
from converters.sklearn import rows, training_columns

X, Y = load_iris(return_X_y=True)
NAMES = ("a", "b", "c", "d")


def _columns(model: Any, names: tuple[str, ...] = NAMES) -> list[training_columns.Column]:
    return training_columns.columns(model, names)


def _flips(model: Any, thresholds: list[float], column: int, base: Any) -> int:
    """How many of the thresholds are met: the original answers otherwise on one side than on the other."""
    found = 0
    for threshold in thresholds:
        beside = np.tile(base, (len(rows.around(threshold)), 1))
        beside[:, column] = rows.around(threshold)
        found += len({tuple(answer) for answer in model.predict_proba(beside)}) > 1
    return found


@pytest.mark.parametrize("scaler", [None, StandardScaler(), MinMaxScaler((-3, 5)), RobustScaler()], ids=str)
def test_thresholds_are_met_through_scalers(scaler: Any) -> None:
    tree = DecisionTreeClassifier(max_depth=1, random_state=0)
    model = (tree if scaler is None else make_pipeline(scaler, tree)).fit(X, Y)
    (column,) = (number for number, entry in enumerate(_columns(model)) if entry.thresholds)
    assert _flips(model, _columns(model)[column].thresholds, column, X[0]) == 1


def test_thresholds_are_found_inside_of_other_models() -> None:
    forest = RandomForestClassifier(3, random_state=0)
    scaled = make_pipeline(StandardScaler(), forest)
    for model in (
        VotingClassifier([("a", scaled), ("b", LogisticRegression())], voting="soft"),
        CalibratedClassifierCV(scaled, cv=2),
        BaggingClassifier(DecisionTreeClassifier(), 5, max_features=2, random_state=0),
    ):
        columns = _columns(model.fit(X, Y))
        met = [_flips(model, entry.thresholds[:20], number, X[60]) for number, entry in enumerate(columns)]
        assert sum(met) >= 5


def test_a_data_frames_columns_are_told_apart() -> None:
    frame = pd.DataFrame(X, columns=list(NAMES)).assign(city=np.where(X[:, 0] > 5, "Köln", "Bonn").astype(object))
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["d", "b"]),
            ("city", OneHotEncoder(), ["city"]),
            ("bins", KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), ["a"]),
        ]
    )
    model = make_pipeline(columns, DecisionTreeClassifier(max_depth=2, random_state=0)).fit(frame, Y)
    a, b, c, d, city = _columns(model, (*NAMES, "city"))
    assert city.categories == ["Bonn", "Köln"]
    assert city.closed
    assert len(a.thresholds) == 4, "the bins' edges"
    assert b.thresholds or d.thresholds
    assert not c.thresholds
    low, high = d.low or 0.0, d.high or 0.0
    assert low < X[:, 3].min() < X[:, 3].max() < high
    table = rows.generate([a, b, c, d, city], (*NAMES, "city"))
    assert set(table.columns[4]) == {"Bonn", "Köln"}, "a closed column has no others"


def test_histogram_boostings_categories_come_first_and_are_sent_back() -> None:
    x = np.column_stack([X[:, 0], np.round(X[:, 3] * 2)])
    model = HistGradientBoostingRegressor(max_iter=3, categorical_features=[1]).fit(x, X[:, 1])
    first, second = _columns(model, ("size", "kind"))
    assert first.thresholds
    assert X[:, 0].min() < min(first.thresholds) < X[:, 0].max()
    assert not second.thresholds
    assert sorted(second.categories) == sorted(set(x[:, 1]))


def test_training_points_and_whole_numbers_are_taken_from_models_that_keep_them() -> None:
    x = np.column_stack([np.round(X[:, 0]), X[:, 1]])
    model = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(x, Y)
    whole, fraction = _columns(model, ("n", "f"))
    assert whole.whole
    assert not fraction.whole
    generated = rows.generate([whole, fraction], ("n", "f"))
    assert (generated.columns[0] == np.round(generated.columns[0])).all()
    training = training_columns.training(model, ("n", "f"), 40)
    assert training is not None
    assert len(training) == 40
    given = {tuple(np.round(row, 9)) for row in x}
    assert {tuple(np.round(row, 9)) for row in training.matrix()} <= given


def test_counted_categories_of_naive_bayes_are_whole_numbers_from_0() -> None:
    x = np.random.default_rng(0).integers(0, 3, (60, 2))
    columns = _columns(CategoricalNB().fit(x, np.arange(60) % 2), ("a", "b"))
    assert [column.categories for column in columns] == [[0, 1, 2]] * 2
    assert all(column.closed for column in columns)


def test_boundary_rows_change_one_cell_each() -> None:
    base = Table(("a", "b"), (np.zeros(5), np.full(5, 9.0)))
    table = rows.edges([training_columns.Column(thresholds=[0.1]), training_columns.Column(thresholds=[1e300])], base)
    assert table is not None
    changed = (table.columns[0] != 0) ^ (table.columns[1] != 9)
    assert changed.all()
    singles = [value for value in table.columns[0] if value != 0]
    assert np.float64(0.1) in singles
    assert float(np.float32(0.1)) in singles
    assert np.nextafter(0.1, 1) in singles
    assert np.isfinite(table.columns[1]).all(), "what float32 cannot hold has no neighbours there"
    assert rows.edges([training_columns.Column(), training_columns.Column()], base) is None
