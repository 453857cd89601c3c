"""How many columns a model takes that does not say it: dummies up to scikit-learn 1.5, and wrappers that begin so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime as ort
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import VotingRegressor
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from converters import Options
from converters.package.manifest import Converted
from converters.sklearn.convert import convert
from edgepack.errors import ConversionError

ROWS = np.random.default_rng(0).normal(size=(40, 3))
TARGET = (ROWS[:, 0] > 0).astype(int)


def converted(model: Any, folder: Path, sample: Any = None) -> Converted:
    joblib.dump(model, folder / "m.joblib")
    if sample is not None:
        np.save(folder / "sample.npy", sample)
    return convert(
        folder / "m.joblib",
        "sha256:" + "0" * 64,
        Options(sample=None if sample is None else folder / "sample.npy"),
    )


def as_older(dummy: Any) -> Any:
    """A fitted dummy as series up to 1.5 leave it."""
    del dummy.n_features_in_
    return dummy


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("kind", [DummyClassifier, DummyRegressor])
def test_a_dummy_that_keeps_no_number_of_columns_takes_any(kind: Any, piped: bool, tmp_path: Path) -> None:
    dummy = as_older(kind().fit(ROWS, TARGET))
    found = converted(make_pipeline(dummy) if piped else dummy, tmp_path)
    assert [entry["shape"] for entry in found.manifest["inputs"]] == [[None, None]]
    session = ort.InferenceSession(found.model)
    for columns in (1, 3, 7):
        rows = np.zeros((5, columns))
        assert session.run(None, {"X": rows})[0].ravel().tolist() == dummy.predict(rows).tolist()


def test_a_sample_says_how_many_columns_a_dummy_takes(tmp_path: Path) -> None:
    found = converted(as_older(DummyClassifier().fit(ROWS, TARGET)), tmp_path, ROWS[:4])
    assert [entry["shape"] for entry in found.manifest["inputs"]] == [[None, 3]]


def test_a_part_says_what_the_first_one_does_not(tmp_path: Path) -> None:
    model = VotingRegressor([("a", DummyRegressor()), ("b", LinearRegression())]).fit(ROWS, ROWS[:, 1])
    as_older(model.estimators_[0])
    assert not hasattr(model, "n_features_in_")
    found = converted(model, tmp_path)
    answer, *_ = ort.InferenceSession(found.model).run(None, {"X": ROWS})
    np.testing.assert_allclose(answer.ravel(), model.predict(ROWS), rtol=1e-9)


def test_what_says_no_number_of_columns_is_told_the_true_reason(tmp_path: Path) -> None:
    voting = VotingRegressor([("a", DummyRegressor()), ("b", DummyRegressor())]).fit(ROWS, ROWS[:, 1])
    for part in voting.estimators_:
        as_older(part)
    with pytest.raises(ConversionError, match="does not say how many columns it takes") as caught:
        converted(voting, tmp_path)
    assert "--sample" in (caught.value.hint or "")
    assert converted(voting, tmp_path, ROWS[:4]).manifest["inputs"][0]["shape"] == [None, 3]
    for unfitted in (LogisticRegression(), DummyClassifier(), make_pipeline(LogisticRegression())):
        with pytest.raises(ConversionError, match="it is not fitted"):
            converted(unfitted, tmp_path)
    with pytest.raises(ConversionError, match="takes images"):
        converted(PatchExtractor().fit(np.zeros((2, 4, 4))), tmp_path)
