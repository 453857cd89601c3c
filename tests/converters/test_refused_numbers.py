"""The package refuses the numbers that the original refuses, also where a plain number becomes such inside the model.

Each answer is compared with that of the original, asked in its user's own way: its own ``predict`` on a data frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    PolynomialFeatures,
    PowerTransformer,
    SplineTransformer,
    StandardScaler,
)

from edgepack.errors import ConversionError
from tests.converters.conftest import Convert

pytestmark = pytest.mark.usefixtures("without_sandbox")

RANDOM = np.random.default_rng(3)
FRAME = pd.DataFrame({"fare": np.exp(RANDOM.normal(size=200)), "age": RANDOM.normal(size=200)})
TARGET = (FRAME.fare + FRAME.age > 1).astype(int)
FARES = (-5.0, -1.0, 0.0, 0.5, 3.0, 800.0, 1e25)


def _behind(function: Any, estimator: Any) -> Any:
    columns = ColumnTransformer([("f", FunctionTransformer(function), ["fare"])], remainder="passthrough")
    return make_pipeline(columns, estimator)


MODELS = {
    "log1p, boosting": lambda: _behind(np.log1p, GradientBoostingClassifier(n_estimators=5)),
    "log, forest": lambda: _behind(np.log, RandomForestClassifier(5, random_state=0)),
    "sqrt, linear": lambda: _behind(np.sqrt, LogisticRegression()),
    "log, imputer, linear": lambda: _behind(np.log, make_pipeline(SimpleImputer(), LogisticRegression())),
    "exp, stacking": lambda: _behind(
        np.exp, StackingClassifier([("a", RandomForestClassifier(3)), ("b", LogisticRegression())])
    ),
    "reciprocal, forest": lambda: _behind(np.reciprocal, RandomForestClassifier(5, random_state=0)),
    "squares, forest": lambda: make_pipeline(PolynomialFeatures(2), RandomForestClassifier(5, random_state=0)),
    "box-cox, linear": lambda: make_pipeline(
        ColumnTransformer([("p", PowerTransformer("box-cox"), ["fare"])]), LogisticRegression()
    ),
}


def _session(model: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(str(model), options)


SAMPLE = ("log, forest", "log, imputer, linear", "box-cox, linear")


@pytest.mark.parametrize("name", MODELS if os.environ.get("EDGEPACK_WHOLE") == "1" else SAMPLE)
def test_numbers_that_the_original_refuses_inside_are_refused(
    name: str, sklearn_to_onnx: Convert, save: Callable[..., Path]
) -> None:
    model = MODELS[name]().fit(FRAME, TARGET)
    session = _session(sklearn_to_onnx(save(model)).model)
    refused = 0
    for fare in FARES:
        row = pd.DataFrame({"fare": [fare], "age": [0.3]})
        try:
            with np.errstate(all="ignore"):
                wanted = model.predict_proba(row)
        except ValueError:
            wanted = None
        arrays = {port.name: row[[port.name]].to_numpy() for port in session.get_inputs() if port.name != "X"}
        arrays = arrays or {"X": row.to_numpy()}
        try:
            found = session.run(["probabilities"], arrays)[0]
        except Exception:  # noqa: BLE001 - the runtime's exceptions share no base class
            found = None
        assert (found is None) == (wanted is None), fare
        refused += wanted is None
        if wanted is not None:
            assert found == pytest.approx(wanted, abs=1e-5), fare
    assert refused


def test_the_report_counts_the_rows_that_the_original_refuses(
    sklearn_to_onnx: Convert, save: Callable[..., Path]
) -> None:
    model = MODELS["sqrt, linear"]().fit(FRAME, TARGET)
    report = json.loads(sklearn_to_onnx(save(model)).report.read_text())
    assert report["refused"]["rows"] > 10
    assert report["refused"]["answered"] == []


@pytest.mark.parametrize("kind", [KNeighborsClassifier, KNeighborsRegressor])
def test_neighbours_of_numbers_that_are_too_far_away_are_refused(
    kind: Any, sklearn_to_onnx: Convert, save: Callable[..., Path]
) -> None:
    model = kind().fit(FRAME.to_numpy(), TARGET)
    session = _session(sklearn_to_onnx(save(model)).model)
    outcomes: dict[int, list[bool | None]] = {}
    for size in (0, 4, 8, 15, 20, 30):
        outcomes[size] = []
        for row in RANDOM.normal(size=(20, 1, 2)) * 10.0**size:
            try:
                found = session.run(None, {"X": row})[0]
            except Exception:  # noqa: BLE001 - as above
                outcomes[size].append(None)
                continue
            outcomes[size].append(bool(np.allclose(found, model.predict(row))))
    assert all(False not in found for found in outcomes.values())
    assert outcomes[0] == outcomes[4] == outcomes[8] == [True] * 20
    assert outcomes[20] == outcomes[30] == [None] * 20


def test_missing_numbers_beside_large_ones_are_filled_in_alike_or_refused(
    sklearn_to_onnx: Convert, save: Callable[..., Path]
) -> None:
    """Which neighbours fill in a missing number is decided by rounding where another number is very large."""
    rows = RANDOM.normal(size=(200, 4))
    holes = np.where(RANDOM.random(rows.shape) < 0.15, np.nan, rows)
    model = make_pipeline(KNNImputer(n_neighbors=3), GradientBoostingClassifier(n_estimators=5))
    model.fit(holes, rows[:, 0] > 0)
    session = _session(sklearn_to_onnx(save(model)).model)
    refused = 0
    for size in (1.0, 1e12, 1e15, 1e20):
        for row in RANDOM.normal(size=(15, 1, 4)):
            row[0, 1], row[0, 2] = size * np.sign(row[0, 1]), np.nan
            try:
                found = session.run(None, {"X": row})[1]
            except Exception:  # noqa: BLE001 - as above
                refused += 1
                continue
            np.testing.assert_allclose(found, model.predict_proba(row), atol=1e-6)
    assert refused == 45


def test_a_data_frame_that_a_part_reads_otherwise_than_a_matrix_is_seen(
    sklearn_to_onnx: Convert, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_pipeline(LogisticRegression()).fit(FRAME, TARGET)
    before = LogisticRegression.predict

    def predict(self: LogisticRegression, rows: Any) -> Any:
        """As a booster that reads the categories of a frame as other numbers."""
        return before(self, rows * -1 if hasattr(rows, "columns") else rows)

    monkeypatch.setattr(LogisticRegression, "predict", predict)
    with pytest.raises(ConversionError, match="otherwise in the form in which it was trained"):
        sklearn_to_onnx(save(model))


SPLINES = {
    "alone": lambda: SplineTransformer(extrapolation="error"),
    "behind a scaler": lambda: make_pipeline(StandardScaler(), SplineTransformer(2, extrapolation="error")),
}


@pytest.mark.parametrize("name", SPLINES)
def test_splines_that_refuse_what_is_beyond_their_knots(
    name: str, save: Callable[[Any], Path], sklearn_to_onnx: Convert
) -> None:
    """No sample is needed: rows are made up within the knots, and the package refuses what is beyond."""
    rows = RANDOM.uniform(50, 90, size=(200, 2))
    model = make_pipeline(SPLINES[name](), LogisticRegression()).fit(rows, rows[:, 0] > 70)
    done = sklearn_to_onnx(save(model))
    assert json.loads(done.report.read_text())["refused"]["answered"] == []
    session = _session(done.model)
    inside = rows[:5]
    np.testing.assert_allclose(session.run(None, {"X": inside})[1], model.predict_proba(inside), rtol=1e-9)
    for beyond in (40.0, rows[:, 1].max() + 1e-6):
        with pytest.raises(ValueError, match="beyond the limits"):
            model.predict(np.array([[70.0, beyond]]))
        with pytest.raises(Exception, match="out of data bounds"):
            session.run(None, {"X": np.array([[70.0, beyond]])})
