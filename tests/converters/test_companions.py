"""Pipelines with category_encoders and feature_engine answer every row as they do, or refuse it as they do.

The rows are unlike those of the training on purpose: unknown, missing and empty categories, words such as "nan", wide
whole numbers, numbers that a step refuses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import category_encoders as ce
import numpy as np
import pandas as pd
import pytest
from feature_engine import creation, discretisation, encoding, imputation, outliers, scaling, selection, transformation
from feature_engine.wrappers import SklearnTransformerWrapper
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline as make_sampled
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from edgepack.errors import ConversionError
from tests.converters.support.as_served import Package, require_same
from tests.support.sampling import WHOLE

SOME = np.random.default_rng(0)
ROWS = 240
FRAME = pd.DataFrame(
    {
        "town": SOME.choice(["Delft", "Gouda", "Köln", "rare"], ROWS, p=[0.4, 0.3, 0.27, 0.03]),
        "age": SOME.normal(40, 9, ROWS),
        "zip": SOME.choice([10, 20, 30, 2**60], ROWS),
        "size": SOME.choice(["S", "M", "", None], ROWS),
    }
)
Y = ((FRAME["age"] > 40) ^ (FRAME["town"] == "Gouda")).astype(int)
ODD = pd.DataFrame(
    {
        "town": ["Delft", "new", None, "", "nan", "delft", "Köln", "Gouda"],
        "age": [40.0, 30, 20, np.nan, 1e9, 3, 4, 5],
        "zip": [10, 99, 20, 30, 10, 2**60, 2**60 - 1, 20],
        "size": ["S", None, "XL", "", "M", "None", "S", "S"],
    }
)
ROWS_TO_ASK = pd.concat([ODD, FRAME.head(10)], ignore_index=True)

ENCODERS: dict[str, Callable[..., Any]] = {
    name: getattr(ce, f"{name}Encoder")
    for name in (
        "Ordinal", "OneHot", "Target", "LeaveOneOut", "Count", "Binary", "WOE", "JamesStein", "CatBoost", "BaseN",
        "MEstimate", "Helmert", "Sum", "Quantile",
    )
}  # fmt: skip
OFTEN = ("Target", "CatBoost")


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _named(names: Any, often: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, marks=() if name in often else pytest.mark.whole) for name in names]


@pytest.mark.parametrize("name", _named(ENCODERS, OFTEN))
def test_encoders_by_default(name: str, tmp_path: Path) -> None:
    encoder = ENCODERS[name]()
    require_same(make_pipeline(encoder, StandardScaler(), LogisticRegression()).fit(FRAME, Y), ROWS_TO_ASK, tmp_path)


OPTIONS: dict[str, Any] = {
    "unknown refused": lambda: ce.TargetEncoder(handle_unknown="error"),
    "unknown missing": lambda: ce.OneHotEncoder(handle_unknown="return_nan"),
    "missing stays": lambda: ce.LeaveOneOutEncoder(handle_missing="return_nan"),
    "missing refused": lambda: ce.OrdinalEncoder(cols=["town"], handle_missing="error"),
    "indicated": lambda: ce.OneHotEncoder(handle_unknown="indicator", handle_missing="indicator"),
    "whole numbers, wide ones": lambda: ce.CountEncoder(cols=["town", "zip", "size"]),
    "whole numbers, wide ones, refused": lambda: ce.OrdinalEncoder(cols=["zip", "size"], handle_unknown="error"),
    "lumped": lambda: ce.TargetEncoder(min_group_size=20),
    "lumped by name": lambda: ce.CountEncoder(min_group_size=9, min_group_name="few", handle_unknown=0),
    "an array": lambda: ce.BinaryEncoder(return_df=False, drop_invariant=True),
}


@pytest.mark.parametrize("name", _named(OPTIONS, ("unknown refused", "missing refused", "whole numbers, wide ones")))
def test_encoders_options_for_unknown_and_missing_values(name: str, tmp_path: Path) -> None:
    encoder = OPTIONS[name]()
    frame = FRAME if "size" in str(encoder.cols) or encoder.cols is None else FRAME.drop(columns="size")
    model = make_pipeline(encoder, HistGradientBoostingRegressor(max_iter=3)).fit(frame, Y)
    require_same(model, ROWS_TO_ASK[list(frame)], tmp_path)


def test_flags_floats_and_pandas_categories_are_encoded_too(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "flag": SOME.choice([True, False], ROWS),
            "grade": SOME.choice([1.0, 2.5, np.nan], ROWS),
            "code": SOME.choice([1, 2, 3], ROWS),
            "kind": pd.Categorical(SOME.choice(["a", "b"], ROWS)),
            "holed": SOME.choice([True, False, None], ROWS),
        }
    )
    rows = pd.DataFrame(
        {
            "flag": [True, False, True, False],
            "grade": [1.0, 7, np.nan, 2.5],
            "code": [1, 9, 3, 2],
            "kind": ["a", "zz", "b", None],
            "holed": [True, False, None, True],
        }
    )
    model = make_pipeline(ce.TargetEncoder(cols=list(frame)), LogisticRegression())
    require_same(model.fit(frame, frame["flag"] ^ (frame["code"] == 1)), rows, tmp_path)


PLACES: dict[str, Any] = {
    "in columns": lambda: make_pipeline(
        ColumnTransformer(
            [
                ("t", ce.TargetEncoder(), ["town"]),
                ("o", make_pipeline(ce.OneHotEncoder(use_cat_names=True), StandardScaler()), ["size"]),
            ],
            remainder="passthrough",
        ),
        HistGradientBoostingRegressor(max_iter=3),
    ),
    "one after the other": lambda: make_pipeline(
        ce.TargetEncoder(cols=["town"]), ce.OneHotEncoder(cols=["size"]), StandardScaler(), Ridge()
    ),
    "before a sampler": lambda: make_sampled(ce.OneHotEncoder(), SMOTE(random_state=0), LogisticRegression()),
    "alone": lambda: ce.TargetEncoder(),
}


@pytest.mark.parametrize("name", _named(PLACES, ("in columns", "one after the other")))
def test_encoders_wherever_they_are(name: str, tmp_path: Path) -> None:
    require_same(PLACES[name]().fit(FRAME, Y), ROWS_TO_ASK, tmp_path)


def test_encoder_of_a_matrix_without_names(tmp_path: Path) -> None:
    cells = FRAME[["town", "size"]].to_numpy(dtype=object)
    model = make_pipeline(ce.OrdinalEncoder(), LogisticRegression()).fit(cells, Y)
    require_same(model, ROWS_TO_ASK[["town", "size"]].to_numpy(dtype=object), tmp_path)


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (lambda: ce.HashingEncoder(max_process=1), "hashes the text"),
        (lambda: ce.TargetEncoder(composite_cols=[("town", "size")]), "several columns at once"),
        (lambda: encoding.StringSimilarityEncoder(variables=["town"]), "compares texts"),
    ],
)
def test_what_depends_on_more_than_the_category_is_refused(encoder: Any, told: str, tmp_path: Path) -> None:
    model = make_pipeline(encoder(), ce.OrdinalEncoder(), LogisticRegression()).fit(FRAME, Y)
    with pytest.raises(ConversionError, match=told):
        Package(model, tmp_path)


FULL = pd.DataFrame(
    {
        "age": SOME.lognormal(3, 0.5, ROWS),
        "pay": SOME.lognormal(7, 1, ROWS),
        "hour": SOME.integers(0, 24, ROWS).astype(float),
        "town": FRAME["town"],
        "kind": SOME.choice(["a", "b"], ROWS),
    }
)
HOLED = FULL.assign(age=FULL["age"].mask(FULL.index % 7 == 0), town=FULL["town"].mask(FULL.index % 9 == 3))
HARD = HOLED.head(20).copy()
for row, (column, value) in enumerate(
    [("town", "new"), ("town", None), ("age", np.nan), ("age", -1.0), ("pay", np.inf), ("age", 0.0), ("town", ""),
     ("pay", 1e30), ("kind", "nan"), ("hour", np.nan), ("hour", 1e9)]
):  # fmt: skip
    HARD.loc[row, column] = value
OLD = (FULL["age"] > 20).astype(int)
NUMBERS = ["age", "pay"]


def _numbers(*steps: Any) -> Any:
    """The steps, and a model of the numbers alone."""
    return make_pipeline(*steps, selection.DropFeatures(["town", "kind"]), StandardScaler(), LogisticRegression())


def _whole(*steps: Any) -> Any:
    return make_pipeline(*steps, LogisticRegression())


def _narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """A number and a text, but all columns with ``EDGEPACK_WHOLE``: each column is asked for in some 50 rows more."""
    return frame if WHOLE else frame[["age", "town"]]


STEPS: dict[str, tuple[Callable[[], Any], Any]] = {
    "imputers, rare labels, one-hot": (
        lambda: make_pipeline(
            imputation.MeanMedianImputer(), imputation.CategoricalImputer(),
            encoding.RareLabelEncoder(tol=0.05, n_categories=2), encoding.OneHotEncoder(), StandardScaler(),
            LogisticRegression(),
        ),
        _narrow(HOLED),
    ),
    "missing indicator, mean encoder": (
        lambda: _whole(
            imputation.AddMissingIndicator(), imputation.ArbitraryNumberImputer(-1), imputation.CategoricalImputer(),
            encoding.MeanEncoder(unseen="encode"),
        ),
        HOLED,
    ),
    "most frequent, end of tail, ordinal": (
        lambda: _whole(
            imputation.EndTailImputer(),
            imputation.CategoricalImputer(imputation_method="frequent", variables=["town"]),
            encoding.OrdinalEncoder(encoding_method="ordered", unseen="encode"),
        ),
        HOLED,
    ),
    "counts, unseen refused": (lambda: _whole(encoding.CountFrequencyEncoder(unseen="raise")), FULL),
    "unseen becomes missing, which the model refuses": (
        lambda: _whole(encoding.DecisionTreeEncoder(regression=False)), _narrow(FULL)
    ),
    "rare numbers": (
        lambda: _numbers(
            encoding.RareLabelEncoder(variables=["hour"], ignore_format=True, replace_with=-1, tol=0.045)
        ),
        FULL,
    ),
    "logarithms": (lambda: _numbers(transformation.LogCpTransformer(variables=NUMBERS)), FULL),
    "powers": (
        lambda: _numbers(
            transformation.PowerTransformer(variables=["age"], exp=0.3),
            transformation.ReciprocalTransformer(variables=["pay"]),
            transformation.ArcSinhTransformer(variables=["hour"]),
        ),
        FULL,
    ),
    "Box-Cox, Yeo-Johnson": (
        lambda: _numbers(
            transformation.BoxCoxTransformer(variables=["age"]), transformation.YeoJohnsonTransformer(variables=["pay"])
        ),
        FULL,
    ),
    "bins": (
        lambda: _numbers(
            discretisation.EqualWidthDiscretiser(variables=["age"], bins=4),
            discretisation.EqualFrequencyDiscretiser(variables=["pay"], q=5),
        ),
        FULL,
    ),
    "bins of the user's, outside refused": (
        lambda: _numbers(discretisation.ArbitraryDiscretiser({"age": [0, 10, 20, 1000]}, errors="raise")), FULL
    ),
    "bins of a tree": (
        lambda: _numbers(discretisation.DecisionTreeDiscretiser(variables=["age"], regression=False)), FULL
    ),
    "caps with indicators": (
        lambda: _numbers(outliers.Winsorizer(variables=NUMBERS, tail="both", add_indicators=True)), FULL
    ),
    "caps of missing numbers": (
        lambda: make_pipeline(
            outliers.Winsorizer(variables=NUMBERS, missing_values="ignore"), selection.DropFeatures(["town", "kind"]),
            HistGradientBoostingRegressor(max_iter=3),
        ),
        HOLED,
    ),
    "cycles": (lambda: _numbers(creation.CyclicalFeatures(["hour"], drop_original=True)), FULL),
    "sums and ratios": (
        lambda: _numbers(
            creation.MathFeatures(NUMBERS, ["sum", "mean", "std", "min", "max", "prod", "var"]),
            creation.RelativeFeatures(["age"], ["pay", "hour"], ["add", "sub", "div"], fill_value=-1),
        ),
        FULL,
    ),
    "a wrapper": (
        lambda: _whole(
            SklearnTransformerWrapper(StandardScaler(), variables=NUMBERS),
            SklearnTransformerWrapper(OneHotEncoder(sparse_output=False, handle_unknown="ignore"), variables=["town"]),
            encoding.OrdinalEncoder(encoding_method="arbitrary"),
        ),
        FULL,
    ),
    "scaled": (lambda: _whole(scaling.MeanNormalizationScaler(), encoding.OneHotEncoder(top_categories=2)), FULL),
}  # fmt: skip
QUICK = (
    "imputers, rare labels, one-hot", "unseen becomes missing, which the model refuses", "bins of a tree",
    "sums and ratios",
)  # fmt: skip


@pytest.mark.parametrize("name", _named(STEPS, QUICK))
def test_steps_of_data_frames(name: str, tmp_path: Path) -> None:
    make, frame = STEPS[name]
    require_same(make().fit(frame, OLD), HARD[list(frame)], tmp_path)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (imputation.DropMissingData, "leaves out rows"),
        (imputation.RandomSampleImputer, "draws at random"),
        (lambda: outliers.OutlierTrimmer(variables=["age"], fold=9), "leaves out rows"),
        (lambda: transformation.ArcsinTransformer(variables=["age"]), "arc sine"),
    ],
)
def test_steps_that_cannot_be_a_service_are_refused_by_name(step: Any, told: str, tmp_path: Path) -> None:
    frame = FULL.assign(age=FULL["age"] / 1000)
    with pytest.raises(ConversionError, match=told):
        Package(_numbers(step()).fit(frame, OLD), tmp_path)
