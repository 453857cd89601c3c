"""Functions, bins, powers, quantiles and splines answer in float64 on their edges what scikit-learn does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
)

from converters.sklearn.recipes.writing.functions import FUNCTIONS
from edgepack.errors import ConversionError
from tests.converters.support.transformer_answers import around, require_same_matrix

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((60, 3)).round(2)
HARD_ROWS = np.vstack([X, np.zeros((1, 3)), [[1e-12, -1e-12, 1e-3]], [[30.0, -40.0, 700.0]]])


def with_missing(x: Any) -> Any:
    return np.where(RANDOM.random(x.shape) < 0.2, np.nan, x)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_known_functions_of_numbers(name: str) -> None:
    function = getattr(np, name, None) or getattr(special, name)
    rows = special.expit(X) if name == "logit" else HARD_ROWS
    require_same_matrix(FunctionTransformer(function).fit(rows), rows)


def test_no_function_is_the_identity() -> None:
    require_same_matrix(FunctionTransformer().fit(HARD_ROWS), HARD_ROWS)


def test_a_function_is_known_by_itself_and_not_by_its_name() -> None:
    def my_feature(x: Any) -> Any:
        return x - x.mean(axis=0)

    my_feature.__name__ = "log1p"  # whatever it calls itself
    for function, named in ((my_feature, "my_feature"), (lambda x: np.sort(x), "a lambda"), (np.unwrap, "unwrap")):
        with pytest.raises(ConversionError, match=named):
            require_same_matrix(FunctionTransformer(function).fit(X), X)


@pytest.mark.parametrize("encode", ["onehot", "onehot-dense", "ordinal"])
@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
@pytest.mark.filterwarnings("ignore")
def test_bins_at_their_edges(encode: str, strategy: str) -> None:
    model = KBinsDiscretizer(4, encode=encode, strategy=strategy).fit(X)
    edges = np.column_stack([np.resize(around(found), 20) for found in model.bin_edges_])
    require_same_matrix(model, np.vstack([X, edges]))


@pytest.mark.parametrize(
    "options",
    [{}, {"degree": 3, "interaction_only": True, "include_bias": False}, {"degree": (2, 3)}, {"degree": 1}],
    ids=str,
)
def test_products_of_columns(options: dict[str, Any]) -> None:
    require_same_matrix(PolynomialFeatures(**options).fit(X), X)


def test_powers_with_missing_values() -> None:
    require_same_matrix(PowerTransformer().fit(X), with_missing(HARD_ROWS[:-1]))
    require_same_matrix(PowerTransformer(standardize=False).fit(X * 1e-3), X * 1e-3)
    positive = np.abs(X) + 0.1
    require_same_matrix(PowerTransformer("box-cox").fit(positive), with_missing(positive))
    bare = PowerTransformer(standardize=False).fit(X)
    bare.lambdas_ = np.array([0.0, 2.0, 1.0])  # the powers at which the formula is another
    require_same_matrix(bare, X)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("repeated", [False, True])
def test_quantiles_at_themselves_and_beyond(distribution: str, repeated: bool) -> None:
    x = np.round(X) if repeated else X
    model = QuantileTransformer(output_distribution=distribution, n_quantiles=30).fit(x)
    require_same_matrix(model, np.vstack([around(model.quantiles_), x * 2, with_missing(x)]))


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_rows_of_zeros_have_no_length(norm: str) -> None:
    require_same_matrix(Normalizer(norm=norm), HARD_ROWS)


def test_a_threshold_is_compared_in_float64() -> None:
    require_same_matrix(Binarizer(threshold=0.1), np.column_stack([around([0.1])] * 2))


@pytest.mark.parametrize("extrapolation", ["error", "constant", "linear", "continue", "periodic"])
@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_splines_on_knots_and_beyond(extrapolation: str, degree: int, bias: bool) -> None:
    model = SplineTransformer(degree=degree, extrapolation=extrapolation, include_bias=bias, knots="quantile").fit(X)
    knots = np.column_stack([spline.t[spline.k : len(spline.t) - spline.k] for spline in model.bsplines_])
    rows = X if extrapolation == "error" else np.vstack([X, X * 1.7, around(knots)])
    require_same_matrix(model, rows)


def test_splines_of_missing_values_are_zero() -> None:
    rows = with_missing(X)
    require_same_matrix(SplineTransformer(handle_missing="zeros").fit(rows), rows)
