"""``python old_series.py FOLDER``: train, convert and compare models with this Python's own scikit-learn.

Run with the Python of an older series' environment. Answers are those of the model's own methods on the matrix that it
was trained on. Prints JSON: by model's name the number of rows that differ, or why it is refused.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime as ort
from sklearn import ensemble, tree
from sklearn.cross_decomposition import CCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from converters.options import Options
from converters.sklearn.convert import convert
from edgepack.errors import ConversionError

ROWS = np.random.default_rng(5).normal(size=(260, 4))
TARGET = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int) + (ROWS[:, 2] > 1)
BINARY = (TARGET > 0).astype(int)


def _models() -> dict[str, tuple[Any, Any]]:
    few = {"n_estimators": 4, "random_state": 0}
    models: dict[str, tuple[Any, Any]] = {}
    for target, suffix in ((TARGET, "three classes"), (BINARY, "two classes")):
        for kind in (
            tree.DecisionTreeClassifier(random_state=0, max_depth=4),
            ensemble.RandomForestClassifier(**few),
            ensemble.GradientBoostingClassifier(**few),
            ensemble.AdaBoostClassifier(**few),
            ensemble.BaggingClassifier(**few),
        ):
            models[f"{type(kind).__name__}, {suffix}"] = kind, target
    models["AdaBoostClassifier of logistic regressions"] = (
        ensemble.AdaBoostClassifier(LogisticRegression(), **few),
        TARGET,
    )
    models["GradientBoostingClassifier, exponential"] = (
        ensemble.GradientBoostingClassifier(loss="exponential", **few),
        BINARY,
    )
    models["GradientBoostingClassifier, init"] = (
        ensemble.GradientBoostingClassifier(init=LogisticRegression(), **few),
        TARGET,
    )
    models["IsolationForest"] = ensemble.IsolationForest(**few), None
    models["RandomForestRegressor"] = ensemble.RandomForestRegressor(**few), ROWS[:, 0]
    models["GaussianProcessClassifier"] = GaussianProcessClassifier(), TARGET
    models["CCA"] = CCA(2), np.column_stack([ROWS[:, 0] + ROWS[:, 1], ROWS[:, 2]])
    models["RandomForestClassifier, two targets"] = (
        ensemble.RandomForestClassifier(**few),
        np.column_stack([TARGET, BINARY]),
    )
    return models


def _bare() -> dict[str, tuple[Any, Any]]:
    """What keeps no number of columns up to 1.5, by itself and as the first part of others, or its part elsewhere."""
    logistic = LogisticRegression()
    models: dict[str, tuple[Any, Any]] = {
        "DummyClassifier": (DummyClassifier(), TARGET),
        "DummyClassifier, two targets": (DummyClassifier(), np.column_stack([TARGET, BINARY])),
        "DummyClassifier in a pipeline": (make_pipeline(DummyClassifier(strategy="most_frequent")), BINARY),
        "DummyRegressor": (DummyRegressor(strategy="median"), ROWS[:, 0]),
        "VotingClassifier": (
            ensemble.VotingClassifier([("a", DummyClassifier()), ("b", logistic)], voting="soft"),
            BINARY,
        ),
        "StackingClassifier": (ensemble.StackingClassifier([("a", DummyClassifier()), ("b", logistic)]), TARGET),
        "VotingRegressor": (ensemble.VotingRegressor([("a", DummyRegressor()), ("b", LinearRegression())]), ROWS[:, 0]),
    }
    models["SelfTrainingClassifier"] = SelfTrainingClassifier(logistic), np.where(ROWS[:, 3] > 1, -1, BINARY)
    return {f"{name}, by itself": found for name, found in models.items()}


def _differing(model: Any, folder: Path) -> int | str:
    path = folder / "model.joblib"
    joblib.dump(model, path)
    try:
        converted = convert(path, "sha256:" + "0" * 64, Options())
    except ConversionError as error:
        return error.what
    session = ort.InferenceSession(converted.model, providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(6).normal(size=(400, 4)) * 2
    found = dict(zip([port.name for port in session.get_outputs()], session.run(None, {"X": rows}), strict=True))
    off = np.zeros(len(rows), dtype=bool)
    for method, names in converted.manifest["methods"].items():
        if method == "default":
            continue
        wanted = getattr(model, method)(rows)
        for name, part in zip(names, wanted if isinstance(wanted, list) else [wanted], strict=True):
            off |= ~np.isclose(found[name], part, rtol=1e-4, atol=1e-5).reshape(len(rows), -1).all(axis=1)
    return int(off.sum())


def main(folder: Path) -> None:
    """Print what each model came to."""
    warnings.simplefilter("ignore")
    results = {}
    for name, (model, target) in _models().items():
        pipeline = make_pipeline(StandardScaler(), model).fit(ROWS, target)
        results[name] = _differing(pipeline, folder)
    for name, (model, target) in _bare().items():
        results[name] = _differing(model.fit(ROWS, target), folder)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
