"""Imputers and missing indicators fill in float64, and in text, what scikit-learn does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer

from edgepack.errors import ConversionError
from tests.converters.support.transformer_answers import require_same_matrix, require_same_texts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RANDOM = np.random.default_rng(0)


def holes(rows: int, *, empty: int | None = None) -> Any:
    """Rows with a fifth missing, the first but for one value, of which one column may be missing throughout."""
    x = RANDOM.standard_normal((rows, 5))
    x[RANDOM.random(x.shape) < 0.2] = np.nan
    x[0, 1:] = np.nan
    x[0, 0] = 0.5
    if empty is not None:
        x[:, empty] = np.nan
    return x


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.parametrize("indicator", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_simple_imputer_fills_and_flags(strategy: str, indicator: bool, keep: bool) -> None:
    model = SimpleImputer(strategy=strategy, add_indicator=indicator, keep_empty_features=keep)
    require_same_matrix(model.fit(np.round(holes(80, empty=2))), holes(40))


def test_a_number_may_stand_for_missing() -> None:
    x, rows = (np.nan_to_num(holes(count), nan=-1.0) for count in (80, 40))
    require_same_matrix(SimpleImputer(missing_values=-1, add_indicator=True).fit(x), rows)


@pytest.mark.parametrize("features", ["missing-only", "all"])
def test_missing_indicator_flags_its_columns(features: str) -> None:
    x = holes(80)
    x[:, 3] = 1.0
    require_same_matrix(MissingIndicator(features=features, error_on_new=False).fit(x), holes(40))


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("keep", [False, True])
def test_knn_imputer_takes_the_nearest_donors(weights: str, keep: bool) -> None:
    model = KNNImputer(n_neighbors=3, weights=weights, keep_empty_features=keep, add_indicator=keep)
    rows = holes(40)
    rows[3] = np.nan
    require_same_matrix(model.fit(holes(90, empty=2)), rows)


@pytest.mark.parametrize(
    "model",
    [
        IterativeImputer(max_iter=4),
        IterativeImputer(max_iter=2, add_indicator=True, min_value=-1, max_value=1),
        IterativeImputer(max_iter=2, initial_strategy="constant", keep_empty_features=True),
        IterativeImputer(RandomForestRegressor(3, max_depth=3, random_state=0), max_iter=2),
    ],
    ids=["linear", "bounded", "empty kept", "forest"],
)
def test_iterative_imputer_repeats_its_rounds(model: Any) -> None:
    rows = holes(30)
    rows[1] = np.nan  # a batch of this row alone holds nothing
    # A forest's answers are sums of float32.
    require_same_matrix(model.fit(holes(80, empty=2)), rows, rtol=1e-6)


def test_text_is_filled_and_flagged() -> None:
    words = np.array([["a", "x"], [None, "y"], ["é", None], ["a", "y"], ["b", "x"]] * 4, dtype=object)
    nan = np.where(words == None, np.nan, words).astype(object)  # noqa: E711
    for strategy in ("most_frequent", "constant"):
        require_same_texts(SimpleImputer(strategy=strategy).fit(nan), nan)
        require_same_texts(SimpleImputer(strategy=strategy, missing_values=None).fit(words), words)
    marked = np.where(words == None, "?", words).astype(object)  # noqa: E711
    require_same_texts(SimpleImputer(strategy="most_frequent", missing_values="?").fit(marked), marked)
    require_same_texts(MissingIndicator().fit(nan), nan)


def test_what_has_no_form_is_refused_by_name() -> None:
    words = np.array([["a"], [np.nan], ["b"], ["b"]], dtype=object)
    with pytest.raises(ConversionError, match="add_indicator"):
        require_same_texts(SimpleImputer(strategy="most_frequent", add_indicator=True).fit(words), words)
    with pytest.raises(ConversionError, match="sample_posterior"):
        require_same_matrix(IterativeImputer(max_iter=1, sample_posterior=True).fit(holes(40)), holes(5))
