"""Models whose answers hang on which of equally far training rows the original takes are refused, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.impute import KNNImputer
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor
from sklearn.semi_supervised import LabelSpreading

from converters.sklearn.recipes import ties
from edgepack.errors import ConversionError
from tests.converters.support.predictor_answers import matrix_to_onnx, require_same_answers
from tests.converters.support.transformer_answers import require_same_matrix

RANDOM = np.random.default_rng(3)
FRACTIONS = RANDOM.standard_normal((120, 4))
WHOLE = np.unique(RANDOM.integers(0, 5, (90, 3)).astype(float), axis=0)
CLASSES = (FRACTIONS[:, 0] > 0).astype(int)


def _twice(rows: Any) -> Any:
    """The rows, and the first two of them again at the end."""
    return np.concatenate([rows, rows[:2]])


def test_equal_training_rows_are_refused_where_their_targets_differ_and_only_there() -> None:
    x, agreeing = _twice(FRACTIONS), _twice(CLASSES)
    require_same_answers(KNeighborsClassifier(3).fit(x, agreeing), FRACTIONS)
    require_same_answers(KNeighborsRegressor(3).fit(x, agreeing * 1.5), FRACTIONS)
    differing = np.append(CLASSES, 1 - CLASSES[:2])
    for model in (KNeighborsClassifier(3), KNeighborsRegressor(3, weights="distance")):
        with pytest.raises(ConversionError, match=r"2 training rows .* equal another"):
            matrix_to_onnx(model.fit(x, differing), 4)
    # All are taken: there is nothing to choose.
    require_same_answers(KNeighborsRegressor(len(x)).fit(x, differing), FRACTIONS)


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsRegressor(4),
        KNeighborsRegressor(4, algorithm="brute", weights="distance"),
        KNeighborsClassifier(4, metric="manhattan"),
        KNeighborsClassifier(4, metric="canberra"),
        LocalOutlierFactor(4, novelty=True),
        LabelSpreading(kernel="knn", n_neighbors=4),
    ],
    ids=str,
)
def test_whole_numbers_among_which_many_rows_are_equally_far_are_refused(model: Any) -> None:
    target = np.arange(len(WHOLE)) % 3
    with pytest.raises(ConversionError, match="equally far"):
        matrix_to_onnx(model.fit(WHOLE, target), 3)


def test_equally_far_rows_of_one_target_do_no_harm() -> None:
    require_same_answers(KNeighborsRegressor(4).fit(WHOLE, np.full(len(WHOLE), 2.5)), WHOLE)


@pytest.mark.parametrize("data", [load_iris, load_digits])
def test_data_on_which_the_answers_would_differ_are_refused(data: Any) -> None:
    x, y = data(return_X_y=True)
    with pytest.raises(ConversionError, match="equally far"):
        matrix_to_onnx(KNeighborsClassifier(5).fit(x, y), x.shape[1])


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_an_imputer_is_refused_where_its_donors_are_equally_far(weights: str) -> None:
    holes = FRACTIONS[:30] + 0.01
    holes[::2, 1] = np.nan
    require_same_matrix(KNNImputer(n_neighbors=3, weights=weights).fit(FRACTIONS), holes)
    with pytest.raises(ConversionError, match=r"equally far|no distance"):
        matrix_to_onnx(KNNImputer(n_neighbors=3, weights=weights).fit(WHOLE), 3)


def test_an_imputer_by_distance_is_refused_where_two_donors_are_where_the_row_is() -> None:
    x = np.vstack([FRACTIONS, FRACTIONS[:1]])
    x[-1, 2] += 1.0
    model = KNNImputer(n_neighbors=3, weights="distance").fit(x)
    with pytest.raises(ConversionError, match="no distance"):
        matrix_to_onnx(model, 4)


def test_ties_count_only_at_the_last_place_and_between_unlike_targets() -> None:
    away = np.array([[1.0, 2.0, 2.0, 3.0], [1.0, 1.0, 2.0, 3.0], [np.inf, np.inf, np.inf, np.inf]])
    unlike, alike = np.arange(4)[:, None], np.array([[0], [1], [1], [2]])
    assert [ties.splits(away, unlike, count) for count in (1, 2, 3, 4)] == [1, 1, 0, 0]
    assert ties.splits(away, alike, 2) == 0
