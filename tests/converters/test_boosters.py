"""Models in the boosters' own formats, and pickles of bare boosters, become estimators; what is broken is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import is_classifier

from converters import Conversion
from converters.boosters import load
from converters.source import kinds
from edgepack.errors import ConversionError
from tests.converters.support.booster_models import assert_equal, data, make, require

X, Y = data()
TWO, THREE = (np.median(Y) < Y).astype(int), np.digitize(Y, np.quantile(Y, [0.3, 0.6]))
TEXT = np.array(["low", "mid", "high"])[THREE]

Saved = tuple[Any, bool]


def _xgboost_train(path: Path) -> Saved:
    (xgboost,) = require("xgboost")
    booster = xgboost.train({"objective": "multi:softmax", "num_class": 3}, xgboost.DMatrix(X, THREE), 5)
    booster.save_model(path)
    return booster.predict(xgboost.DMatrix(X)), True


def _estimator(package: str, kind: str, target: Any) -> Callable[[Path], Saved]:
    def save(path: Path) -> Saved:
        model = make(package, kind).fit(X, target)
        booster = model.booster_ if package == "lightgbm" else model
        booster.save_model(
            str(path), **({"format": "json"} if path.suffix == ".json" and package == "catboost" else {})
        )
        answer = model.predict(X).ravel()
        if package == "lightgbm" and kind == "Classifier":
            answer = np.searchsorted(model.classes_, answer)  # its text does not name classes
        return answer, kind == "Classifier"

    return save


FILES: dict[str, Callable[[Path], Saved]] = {
    "xgboost.json": _estimator("xgboost", "Classifier", THREE),
    "xgboost.ubj": _estimator("xgboost", "Regressor", Y),
    "booster.json": _xgboost_train,
    "lightgbm.txt": _estimator("lightgbm", "Classifier", TEXT),
    "numbers.txt": _estimator("lightgbm", "Regressor", Y),
    "catboost.cbm": _estimator("catboost", "Classifier", TEXT),
    "catboost.json": _estimator("catboost", "Regressor", Y),
}


@pytest.mark.parametrize("name", FILES)
def test_native_files_answer_as_the_library_does(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    answer, classifies = FILES[name](path)
    # Told by what is in it, whatever it is called.
    other = path.rename(path.with_suffix(".model"))
    assert kinds.is_booster_file(other)
    model = load.load_native(other)
    assert is_classifier(model) is classifies
    again = np.asarray(model.predict(X)).ravel()
    if classifies:
        np.testing.assert_array_equal(again, answer)
    else:
        np.testing.assert_allclose(again, answer, rtol=1e-14)
    assert_equal(model, X)


def test_bare_boosters_out_of_pickles_become_estimators(tmp_path: Path) -> None:
    lightgbm, xgboost, catboost = require("lightgbm", "xgboost", "catboost")
    native = {name: tmp_path / name for name in ("xgboost.json", "lightgbm.txt", "catboost.cbm")}
    for name, path in native.items():
        FILES[name](path)
    bare = (
        xgboost.Booster(model_file=str(native["xgboost.json"])),
        lightgbm.Booster(model_file=str(native["lightgbm.txt"])),
        catboost.CatBoost().load_model(str(native["catboost.cbm"])),
    )
    for booster in bare:
        joblib.dump(booster, tmp_path / "bare.joblib")
        assert not kinds.is_booster_file(tmp_path / "bare.joblib")
        model = load.adapt(joblib.load(tmp_path / "bare.joblib"))
        assert is_classifier(model)
        assert_equal(model, X)


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_categories_of_a_data_frame_are_taken_as_they_are_written(tmp_path: Path, package: str) -> None:
    import pandas as pd

    random = np.random.default_rng(2)
    towns = ["Delft", "Gouda", "Leiden" if package == "xgboost" else "Zürich"]
    frame = pd.DataFrame(
        {
            "size": X[:, 0],
            "town": pd.Categorical(random.choice(towns, len(X))),
            "zone": pd.Categorical(random.choice([10, 20, 30], len(X))),
            "price": X[:, 1],
        }
    )
    frame.loc[::9, "town"] = np.nan
    target = ((np.nan_to_num(X[:, 0]) > 0) ^ frame["town"].isin(towns[1:])).astype(int)
    further = {"enable_categorical": True} if package == "xgboost" else {}
    model = make(package, "Classifier", **further).fit(frame, target)
    plain = frame.astype({"town": object, "zone": int})
    path = tmp_path / ("model.json" if package == "xgboost" else "model.txt")
    (model if package == "xgboost" else model.booster_).save_model(str(path))
    for adapted in (load.adapt(model), load.load_native(path)):
        assert list(adapted.feature_names_in_) == list(frame.columns)
        np.testing.assert_array_equal(adapted.predict_proba(plain), model.predict_proba(frame))


def test_names_that_a_library_made_up_are_not_the_users() -> None:
    import pandas as pd

    frame = pd.DataFrame(np.nan_to_num(X), columns=list("abcde"))
    for package in ("lightgbm", "catboost"):
        assert load.columns(make(package, "Regressor").fit(X, Y)) == (("x0", "x1", "x2", "x3", "x4"), False)
        assert load.columns(make(package, "Regressor").fit(frame, Y)) == (tuple("abcde"), True)
    assert load.columns(object()) is None


BROKEN: dict[str, tuple[bytes, str]] = {
    "old.model": (b"binf" + bytes(100), "old binary form"),
    "notes.txt": (b"some notes", "not in a supported format of a booster"),
    "half.json": (b'{"learner":{"attr', "not a whole XGBoost model"),
    "other.json": (b'{"foo": 1}', "not a whole XGBoost model"),
    "half.txt": (b"tree\nversion=v4\nnum_class=1\n", "not a whole LightGBM model"),
    "half.cbm": (b"CBM1\x90\x34\0\0", "not a whole CatBoost model"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    require("xgboost", "lightgbm", "catboost")
    path = tmp_path / name
    content, message = BROKEN[name]
    path.write_bytes(content)
    assert kinds.is_booster_file(path)
    with pytest.raises(ConversionError, match=message) as raised:
        load.load_native(path)
    assert raised.value.hint


def test_a_text_of_lightgbm_that_breaks_off_between_trees_is_refused(tmp_path: Path) -> None:
    """LightGBM itself would end the process, or answer from the trees that are there."""
    path = tmp_path / "model.txt"
    FILES["numbers.txt"](path)
    whole = path.read_text()
    path.write_text(whole[: whole.index("Tree=7")])
    with pytest.raises(ConversionError, match="not a whole LightGBM model"):
        load.load_native(path)


def test_pickles_are_not_taken_for_native_files(tmp_path: Path) -> None:
    for name in ("model.bin", "model.json"):
        joblib.dump({"a": 1}, tmp_path / name)
        assert not kinds.is_booster_file(tmp_path / name)


@pytest.mark.parametrize("name", ["xgboost.ubj", "lightgbm.txt", "catboost.cbm"])
def test_native_files_convert_in_the_sandbox(
    tmp_path: Path, name: str, sklearn_to_onnx: Callable[..., Conversion]
) -> None:
    FILES[name](tmp_path / name)
    np.save(tmp_path / "rows.npy", X[:50])  # of which some numbers are missing, as XGBoost's file does not say
    conversion = sklearn_to_onnx(tmp_path / name, sample=tmp_path / "rows.npy")
    assert conversion.parity is not None
    assert conversion.parity.passed
