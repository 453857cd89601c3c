"""``python make_boosters_as_used.py OUT_DIR``: boosters with the answers that their users get, for the matrix.

Trained and asked as their users do it: on a table with columns of categories, on sparse rows, inside of other
estimators, as a bare booster after early stopping. Imports nothing of ours, so that every answer is the library's own.
Runs in the boosters' own environment. Writes ``index.json`` as ``make_tensorflow.py`` does; ``answers.npz`` beside each
model has what users send, ``rows`` or ``column/NAME``, and ``answer/METHOD``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROWS, TREES, SEED = 500, 12, 20_240_601
METHODS = ("predict", "predict_proba", "decision_function", "score_samples", "transform")
TOWNS = ("Delft", "Gouda", "Leiden")


@dataclass(frozen=True)
class Used:
    """``ask`` gives the answers by method; ``sent`` is the table or matrix that a package gets for the same rows."""

    name: str
    model: Any
    sent: Any
    ask: Callable[[], dict[str, Any]]


def main(arguments: list[str]) -> int:
    """Write the models."""
    import joblib

    out, index = Path(arguments[0]), []
    for used in (*on_categories(), *inside(), *on_sparse_rows(), *bare()):
        folder = out / used.name.replace(" ", "-").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        joblib.dump(used.model, folder / "model.joblib")
        stored: dict[str, Any] = {f"answer/{method}": np.asarray(answer) for method, answer in used.ask().items()}
        stored["clean"] = np.array(len(used.sent))
        if hasattr(used.sent, "columns"):
            stored |= {f"column/{name}": _storable(used.sent[name].to_numpy()) for name in used.sent}
        else:
            stored["rows"] = used.sent
        np.savez(folder / "answers.npz", **stored)
        entry = {"name": used.name, "path": f"{folder.name}/model.joblib", "framework": "ScikitLearn"}
        index.append({**entry, "options": {}, "expect": "converts", "reason": "", "folder": folder.name})
    (out / "index.json").write_text(json.dumps(index, indent=1))
    return 0


def on_categories() -> Iterator[Used]:
    """Whole numbers that are not their own codes, and text, as pandas' categories."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import VotingClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, classes = _table()
    sent = table.astype({"zone": int, "town": object})
    for name, classifier, _ in _makers():
        scaled = ColumnTransformer(
            [("size", StandardScaler(), ["size"])], remainder="passthrough", verbose_feature_names_out=False
        ).set_output(transform="pandas")
        ways = {
            "alone": classifier(),
            "in a pipeline": Pipeline([("model", classifier())]),
            "in a search": GridSearchCV(classifier(), {"max_depth": [3]}, cv=2),
            "calibrated": CalibratedClassifierCV(classifier(), cv=2),
            "in a vote": VotingClassifier([("a", classifier()), ("b", classifier())], voting="soft"),
            "behind scaled columns": make_pipeline(scaled, classifier()),
        }
        for way, model in ways.items():
            yield _of(f"{name} on categories, {way}", model.fit(table, classes), table, sent)


def inside() -> Iterator[Used]:
    """XGBoost and CatBoost as parts of scikit-learn's estimators."""
    from catboost import CatBoostClassifier, CatBoostRegressor
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import MultiOutputRegressor

    quiet = {"iterations": TREES, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    makers = [entry for entry in _makers() if entry[0] == "XGBoost"]
    makers.append(("CatBoost", lambda: CatBoostClassifier(**quiet), lambda: CatBoostRegressor(**quiet)))
    x, number, classes = _matrix()
    for name, classifier, regressor in makers:
        pair = [("a", classifier()), ("b", LogisticRegression())]
        ways = {
            "vote": (VotingClassifier(pair, voting="soft"), classes),
            "stack": (StackingClassifier(pair, cv=2), classes),
            "bag": (BaggingClassifier(classifier(), 3, random_state=0), classes),
            "one against the rest": (OneVsRestClassifier(classifier()), classes),
            "transformed target": (TransformedTargetRegressor(regressor(), func=np.log, inverse_func=np.exp), number),
            "several outputs": (MultiOutputRegressor(regressor()), np.stack([number, -number], axis=1)),
        }
        for way, (model, target) in ways.items():
            yield _of(f"{name} in a {way}", model.fit(x, target), x, x)


def on_sparse_rows() -> Iterator[Used]:
    """XGBoost behind one-hot columns, where zeros are missing values."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table, classes = _table()
    sent = table.astype({"zone": int, "town": object})
    classifier = next(maker for name, maker, _ in _makers() if name == "XGBoost")
    mixed = ColumnTransformer([("c", OneHotEncoder(), ["town"])], remainder="passthrough", sparse_threshold=1)
    words = sent[["zone", "town"]]
    yield _of(
        "XGBoost on one-hot columns", make_pipeline(OneHotEncoder(), classifier()).fit(words, classes), words, words
    )
    yield _of("XGBoost on sparse and other columns", make_pipeline(mixed, classifier()).fit(sent, classes), sent, sent)


def bare() -> Iterator[Used]:
    """Boosters without their estimators: all rounds of XGBoost's, the scores of CatBoost's."""
    import xgboost
    from catboost import CatBoost

    x, number, _ = _matrix()
    noise = np.random.default_rng(SEED).permutation(number)
    rows, other = xgboost.DMatrix(x, number), xgboost.DMatrix(x, noise)
    stopped = xgboost.train({"eta": 0.5}, rows, 40, evals=[(other, "v")], early_stopping_rounds=4, verbose_eval=False)
    yield Used("xgboost.Booster after early stopping", stopped, x, lambda: {"predict": stopped.predict(rows)})
    options = {"loss_function": "Poisson", "iterations": TREES, "verbose": 0, "allow_writing_files": False}
    counts = CatBoost(options).fit(x, number.round())
    yield Used("catboost.CatBoost of counts", counts, x, lambda: {"predict": counts.predict(x)})


def _of(name: str, model: Any, asked: Any, sent: Any) -> Used:
    methods = [method for method in METHODS if hasattr(model, method)]
    return Used(name, model, sent, lambda: {method: getattr(model, method)(asked) for method in methods})


def _makers() -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    import lightgbm
    import xgboost

    usual = {"n_estimators": TREES, "n_jobs": 1, "random_state": 0}
    quiet = {**usual, "verbose": -1}
    codes = {**usual, "enable_categorical": True}
    return [
        ("XGBoost", lambda: xgboost.XGBClassifier(**codes), lambda: xgboost.XGBRegressor(**codes)),
        ("LightGBM", lambda: lightgbm.LGBMClassifier(**quiet), lambda: lightgbm.LGBMRegressor(**quiet)),
    ]


def _table() -> tuple[Any, Any]:
    import pandas as pd

    random = np.random.default_rng(SEED)
    zone, town, size = random.choice([10, 20, 30], ROWS), random.choice(TOWNS, ROWS), random.normal(size=ROWS)
    classes = ((zone == 20).astype(int) + (town == "Gouda") + (size > 0)) % 3
    return pd.DataFrame({"zone": pd.Categorical(zone), "size": size, "town": pd.Categorical(town)}), classes


def _matrix() -> tuple[Any, Any, Any]:
    random = np.random.default_rng(SEED)
    x = random.normal(size=(ROWS, 5))
    number = np.exp(x[:, 0] + np.sin(3 * x[:, 1]) / 2)
    return x, number, np.digitize(number, np.quantile(number, [0.3, 0.6]))


def _storable(column: Any) -> Any:
    return column.astype(str) if column.dtype.kind not in "fib" else column


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
