"""CatBoost's categorical columns: the model keeps hashes of them, the sample has what they are of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import catboost
import joblib
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest

from converters.options import Options
from converters.sklearn.convert import convert
from edgepack.errors import ConversionError

CATEGORIES = ["city", "code", "kind"]
SETTINGS: dict[str, Any] = {
    "iterations": 25,
    "depth": 4,
    "random_seed": 1,
    "verbose": 0,
    "thread_count": 1,
    "allow_writing_files": False,
    "cat_features": CATEGORIES,
}


@dataclass(frozen=True)
class Rows:
    """Training rows, and others with unknown categories and missing numbers."""

    train: pd.DataFrame
    target: Any
    asked: pd.DataFrame


@pytest.fixture(scope="module")
def rows() -> Rows:
    random = np.random.default_rng(0)
    count = 900
    train = pd.DataFrame(
        {
            "city": random.choice(["Zürich", "Oslo", "la Paz"], count),
            "size": random.normal(size=count),
            "code": random.choice([1, 2, 3, 40], count),
            "kind": random.choice([f"k{number}" for number in range(12)], count),
            "age": np.where(random.random(count) < 0.1, np.nan, random.normal(size=count)),
        }
    )
    odd = (train.city == "Oslo") ^ train.code.isin([2, 40]) ^ (train["size"] > 0)
    target = odd * 3.0 + train.kind.str[1:].astype(int) * 0.2 + train.age.fillna(-2)
    asked = train.sample(300, random_state=2).reset_index(drop=True)
    asked.loc[::7, "city"] = "Bern"
    asked.loc[::5, "code"] = 777
    asked.loc[::3, "kind"] = "K1"
    return Rows(train, target, asked)


def _converted(folder: Path, model: Any, sample: pd.DataFrame | None, name: str = "m.joblib") -> Any:
    path = folder / name
    if name.endswith(".cbm"):
        model.save_model(str(path))
    else:
        joblib.dump(model, path)
    given = None
    if sample is not None:
        given = folder / "sample.csv"
        sample.to_csv(given, index=False)
    return convert(path, "sha256:" + "0" * 64, Options(sample=given))


def _answers(converted: Any, asked: pd.DataFrame) -> dict[str, Any]:
    session = ort.InferenceSession(converted.model, providers=["CPUExecutionProvider"])
    kinds = {"string": object, "int64": np.int64, "float64": np.float64}
    feeds = {
        port["graph_name"]: asked[port["name"]].to_numpy().reshape(-1, 1).astype(kinds[port["dtype"]])
        for port in converted.manifest["inputs"]
    }
    return dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds), strict=True))


REGRESSORS: dict[str, dict[str, Any]] = {
    "one-hot": {"one_hot_max_size": 50},
    "statistics of single columns": {
        "max_ctr_complexity": 1,
        "simple_ctr": [
            "Borders:TargetBorderCount=3",
            "Buckets:TargetBorderCount=2",
            "BinarizedTargetMeanValue",
            "Counter",
        ],
    },
}


@pytest.mark.parametrize("settings", REGRESSORS.values(), ids=REGRESSORS)
def test_categories_are_answered_as_by_the_library(settings: dict[str, Any], rows: Rows, tmp_path: Path) -> None:
    model = catboost.CatBoostRegressor(**SETTINGS, **settings).fit(rows.train, rows.target)
    converted = _converted(tmp_path, model, rows.train, "m.cbm" if "one_hot_max_size" in settings else "m.joblib")
    (answer,) = _answers(converted, rows.asked).values()
    np.testing.assert_allclose(answer.reshape(-1), model.predict(rows.asked), rtol=1e-6)
    assert [port["dtype"] for port in converted.manifest["inputs"]] == [
        "string",
        "float64",
        "int64",
        "string",
        "float64",
    ]
    assert not any(port.get("closed") for port in converted.manifest["inputs"])


def test_statistics_of_several_columns_are_answered_as_by_the_library(rows: Rows, tmp_path: Path) -> None:
    settings = {**SETTINGS, "max_ctr_complexity": 3, "one_hot_max_size": 1, "depth": 5}
    model = catboost.CatBoostClassifier(**settings).fit(rows.train, (rows.target > 1).astype(int))
    model.save_model(str(tmp_path / "m.json"), format="json")
    statistics = json.loads((tmp_path / "m.json").read_text())["features_info"]["ctrs"]
    kinds = {tuple(element["combination_element"] for element in entry["elements"]) for entry in statistics}
    assert any(len(kind) > 1 for kind in kinds)  # or this tests nothing
    converted = _converted(tmp_path, model, rows.train)
    answers = _answers(converted, rows.asked)
    methods = converted.manifest["methods"]
    np.testing.assert_allclose(answers[methods["predict_proba"][0]], model.predict_proba(rows.asked), rtol=1e-6)
    assert answers[methods["predict"][0]].reshape(-1).tolist() == model.predict(rows.asked).tolist()


def test_categories_that_the_sample_lacks_are_rejected(rows: Rows, tmp_path: Path) -> None:
    model = catboost.CatBoostRegressor(**SETTINGS, one_hot_max_size=50).fit(rows.train, rows.target)
    some = rows.train[rows.train.kind < "k5"]
    converted = _converted(tmp_path, model, some)
    ports = {port["name"]: port for port in converted.manifest["inputs"]}
    assert ports["kind"]["closed"] is True
    assert "k5" not in ports["kind"]["categories"]
    assert not ports["city"].get("closed")
    assert any("lacks some of the categories of the column 'kind'" in note for note in converted.report["warnings"])
    known = rows.asked[rows.asked.kind < "k5"]
    known = known[known.kind != "K1"]
    (answer,) = _answers(converted, known).values()
    np.testing.assert_allclose(answer.reshape(-1), model.predict(known), rtol=1e-6)


def test_without_a_sample_the_columns_are_named_and_the_sample_asked_for(rows: Rows, tmp_path: Path) -> None:
    model = catboost.CatBoostRegressor(**SETTINGS, one_hot_max_size=50).fit(rows.train, rows.target)
    with pytest.raises(ConversionError, match=r"'city', 'code', 'kind'.*hashes.*--sample"):
        _converted(tmp_path, model, None)
