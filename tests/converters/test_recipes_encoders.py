"""Encoders find known, rare, unknown and missing categories of every type of column as scikit-learn does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from edgepack.errors import ConversionError
from tests.converters.support.transformer_answers import (
    around,
    require_same_matrix,
    require_same_table,
    require_same_texts,
)

ROWS = 100
RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "word": RANDOM.choice(["a", "b", "é", "dd"], ROWS, p=[0.5, 0.3, 0.15, 0.05]).astype(object),
        "pair": RANDOM.choice(["x", "y"], ROWS).astype(object),
        "whole": RANDOM.choice([3, 5, 9], ROWS),
        "part": RANDOM.choice([0.5, 1.5, 7.0], ROWS),
        "flag": RANDOM.random(ROWS) > 0.5,
    }
)


def unseen() -> pd.DataFrame:
    frame = FRAME.copy()
    frame.loc[0, ["word", "pair"]] = "never seen"
    frame.loc[2, "whole"] = 77
    frame.loc[3, "part"] = np.nextafter(0.5, 1)
    return frame


def with_missing() -> pd.DataFrame:
    frame = FRAME.copy()
    frame.loc[::7, "word"] = np.nan
    frame.loc[::9, "part"] = np.nan
    return frame


def beside_others(encoder: Any) -> ColumnTransformer:
    return ColumnTransformer([("e", encoder, list(FRAME)), ("p", "passthrough", ["part"])], sparse_threshold=0)


@pytest.mark.parametrize("unknown", ["ignore", "infrequent_if_exist", "warn"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drop": "first"},
        {"drop": "if_binary"},
        {"min_frequency": 20},
        {"max_categories": 3},
        {"drop": "first", "min_frequency": 0.2},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_one_hot_of_known_and_unseen_categories(options: dict[str, Any], unknown: str) -> None:
    require_same_table(beside_others(OneHotEncoder(handle_unknown=unknown, **options)).fit(FRAME), unseen())


def test_one_hot_of_missing_categories() -> None:
    missing = with_missing()
    require_same_table(beside_others(OneHotEncoder(handle_unknown="ignore")).fit(missing), missing)
    require_same_table(beside_others(OneHotEncoder(min_frequency=30)).fit(missing), missing)


@pytest.mark.parametrize("unknown", [-2, np.nan])
@pytest.mark.parametrize(
    "options",
    [{}, {"encoded_missing_value": -1}, {"min_frequency": 20, "encoded_missing_value": -1}, {"max_categories": 2}],
    ids=str,
)
def test_ordinal_numbers_of_unseen_and_missing_categories(options: dict[str, Any], unknown: float) -> None:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=unknown, **options)
    require_same_table(beside_others(encoder).fit(FRAME), unseen())
    require_same_table(beside_others(encoder).fit(with_missing()), with_missing())


@pytest.mark.parametrize("target", ["classes", "flags", "numbers"])
def test_target_means_of_unseen_and_missing_categories(target: str) -> None:
    y = {
        "classes": RANDOM.choice(["p", "q", "r"], ROWS),
        "flags": RANDOM.random(ROWS) > 0.5,
        "numbers": RANDOM.standard_normal(ROWS),
    }[target]
    require_same_table(beside_others(TargetEncoder()).fit(FRAME, y), unseen())
    require_same_table(beside_others(TargetEncoder()).fit(with_missing(), y), with_missing())


def test_a_matrix_of_text_and_one_of_numbers() -> None:
    words = FRAME[["word", "pair"]].to_numpy()
    require_same_texts(OneHotEncoder(handle_unknown="ignore").fit(words[:50]), words)
    require_same_texts(OrdinalEncoder().fit(words), words)
    numbers = FRAME[["part", "part"]].to_numpy()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    require_same_matrix(encoder.fit(numbers), np.column_stack([around([0.5, 1.5, 7.0])] * 2))


def test_a_pipeline_of_imputers_and_encoders_on_mixed_columns() -> None:
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    model = ColumnTransformer([("w", words, ["word", "pair"]), ("n", numbers, ["part", "whole"])], sparse_threshold=0)
    require_same_table(model.fit(with_missing()), with_missing())


def test_two_categories_that_are_one_to_the_graph_are_refused() -> None:
    both = np.array([["a"], [None], [np.nan], ["b"]], dtype=object)
    with pytest.raises(ConversionError, match="the same text"):
        require_same_texts(OneHotEncoder().fit(both), both)
