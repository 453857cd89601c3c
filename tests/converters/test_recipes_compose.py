"""Pipelines, unions, column transformers and selectors hand on what scikit-learn's do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import Birch, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector, VarianceThreshold
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler, TargetEncoder

from edgepack.errors import ConversionError
from tests.converters.support.predictor_answers import require_same_answers
from tests.converters.support.transformer_answers import require_same_matrix, require_same_table

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((80, 6))
Y = np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]
LAST = LogisticRegression()


@pytest.mark.parametrize(
    "first",
    [
        KMeans(3, n_init=1, random_state=0),
        Birch(n_clusters=3, threshold=2.0),
        LinearDiscriminantAnalysis(),
        LinearDiscriminantAnalysis(solver="eigen"),
        RFE(LAST, n_features_to_select=2),
        make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)),
        GridSearchCV(PCA(), {"n_components": [2]}),
        SequentialFeatureSelector(LAST, n_features_to_select=2, cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_step_before_the_last_transforms_and_does_not_predict(first: Any) -> None:
    model = make_pipeline(first, LogisticRegression()).fit(X, Y)
    # Beside the training rows: at distance 0 of one the original's own arithmetic loses half of its digits.
    assert {"label", "probabilities"} <= require_same_answers(model, X + 0.01)


def test_steps_that_pass_are_no_steps() -> None:
    steps = [("a", "passthrough"), ("b", StandardScaler()), ("c", None), ("d", LogisticRegression())]
    assert require_same_answers(Pipeline(steps).fit(X, Y), X)
    require_same_matrix(Pipeline([("s", StandardScaler()), ("p", "passthrough")]).fit(X), X)


@pytest.mark.parametrize("model", [RFE(LAST, n_features_to_select=2), RFECV(LAST, cv=2), RFE(Ridge())], ids=str)
def test_elimination_predicts_by_the_columns_that_it_keeps(model: Any) -> None:
    y = X[:, 1] if isinstance(model.estimator, Ridge) else Y
    assert require_same_answers(model.fit(X, y), X)


def test_selectors_keep_their_columns() -> None:
    thin = np.column_stack([X, np.ones(len(X)), np.where(X[:, 0] > 0, np.nan, X[:, 1])])
    require_same_matrix(VarianceThreshold().fit(thin), thin)
    require_same_matrix(SelectFromModel(LogisticRegression()).fit(X, Y), X)
    none = SelectFromModel(LogisticRegression(), threshold=1e9).fit(X, Y)
    with pytest.raises(ConversionError, match="keeps no column"):
        require_same_matrix(none, X)


def test_a_union_weighs_passes_and_drops() -> None:
    parts = [("a", PCA(2)), ("p", "passthrough"), ("d", "drop"), ("k", KMeans(3, n_init=1))]
    require_same_matrix(FeatureUnion(parts, transformer_weights={"a": 3.0, "p": 0.5}).fit(X), X)


@pytest.mark.parametrize(
    "columns",
    [[5, 0, 3], slice(1, 3), slice(2, None), [-1, 0], [True, False, False, False, True, False], lambda x: [1, 2]],
    ids=["order", "slice", "open slice", "from the end", "mask", "function"],
)
@pytest.mark.parametrize("remainder", ["drop", "passthrough", MinMaxScaler()], ids=["drop", "passthrough", "scaler"])
def test_columns_are_chosen_in_order(columns: Any, remainder: Any) -> None:
    parts = [("s", StandardScaler(), columns), ("k", KMeans(2, n_init=1), [4, 1]), ("n", PCA(1), [])]
    model = ColumnTransformer(parts, remainder=remainder, transformer_weights={"k": 2.0})
    require_same_matrix(model.fit(X), X)
    require_same_matrix(make_pipeline(StandardScaler(), model).fit(X), X)


def test_whole_numbers_and_flags_are_scaled_in_float64() -> None:
    frame = pd.DataFrame(
        {
            "id": RANDOM.integers(0, 10**9, 80),
            "flag": RANDOM.random(80) > 0.5,
            "part": X[:, 0],
            "word": RANDOM.choice(["u", "v"], 80).astype(object),
        }
    )
    scaled = ("s", StandardScaler(), ["part", "id", "flag"])
    for encoder in (OneHotEncoder(), TargetEncoder()):
        model = ColumnTransformer(
            [scaled, ("e", encoder, ["word", "flag"])], remainder="passthrough", sparse_threshold=0
        )
        require_same_table(model.fit(frame, X[:, 0] > 0), frame)


def test_a_predictor_with_a_transform_of_its_own_is_refused_before_the_last_step() -> None:
    class Both(Ridge):
        def transform(self, x: Any) -> Any:
            return x

    with pytest.raises(ConversionError, match="Both"):
        require_same_matrix(Pipeline([("b", Both()), ("s", StandardScaler())]).fit(X, X[:, 0]), X)
