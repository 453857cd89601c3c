"""Boosters as their users train and ask them, for the matrix: how they are written, and the data of all of them.

Imports nothing of the converters', so that every answer is the library's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROWS, TREES, SEED = 500, 12, 20_240_601
METHODS = ("predict", "predict_proba", "decision_function", "score_samples", "transform")
MISSING = "<missing>"
TOWNS = ("Delft", "Gouda", "Leiden")


@dataclass(frozen=True)
class Used:
    """``ask`` gives the answers by method; ``sent`` is the table or matrix that a package gets for the same rows.

    ``save`` writes the model into ``file``, in place of joblib; ``sample`` are rows that its user gives with it.
    Without ``ask`` the model does not say what it answers, so that it is to be refused.
    """

    name: str
    model: Any
    sent: Any
    ask: Callable[[], dict[str, Any]] | None
    save: Callable[[str], Any] | None = None
    file: str = "model.joblib"
    sample: Any = None


def write(out: Path, models: Iterator[Used]) -> None:
    """Write the models into ``out``, with ``index.json`` as ``make_tensorflow.py`` does.

    ``answers.npz`` beside each model has what users send, ``rows`` or ``column/NAME``, and ``answer/METHOD``.
    """
    import joblib

    index = []
    for used in models:
        folder = out / used.name.replace(" ", "-").replace(",", "").replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        if used.save is None:
            joblib.dump(used.model, folder / used.file)
        else:
            used.save(str(folder / used.file))
        entry = {"name": used.name, "path": f"{folder.name}/{used.file}", "framework": "ScikitLearn", "options": {}}
        if used.sample is not None:
            np.save(folder / "sample.npy", used.sample)
            entry["options"] = {"sample": f"{folder.name}/sample.npy"}
        index.append({**entry, "expect": "converts", "reason": "", "folder": folder.name})
        if used.ask is None:
            continue
        stored: dict[str, Any] = {f"answer/{method}": _plain(answer) for method, answer in used.ask().items()}
        stored["clean"] = np.array(len(used.sent))
        if hasattr(used.sent, "columns"):
            stored |= {f"column/{name}": _storable(used.sent[name].to_numpy()) for name in used.sent}
        else:
            stored["rows"] = np.asarray(used.sent)
        np.savez(folder / "answers.npz", **stored)
    (out / "index.json").write_text(json.dumps(index, indent=1))
    return 0


def of(name: str, model: Any, asked: Any, sent: Any) -> Used:
    """A model with every answer that it has to ``asked``."""
    methods = [method for method in METHODS if hasattr(model, method)]
    return Used(name, model, sent, lambda: {method: getattr(model, method)(asked) for method in methods})


def makers() -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Name, classifier and regressor of XGBoost and LightGBM, which take categories."""
    import lightgbm
    import xgboost

    usual = {"n_estimators": TREES, "n_jobs": 1, "random_state": 0}
    quiet = {**usual, "verbose": -1}
    codes = {**usual, "enable_categorical": True}
    return [
        ("XGBoost", lambda: xgboost.XGBClassifier(**codes), lambda: xgboost.XGBRegressor(**codes)),
        ("LightGBM", lambda: lightgbm.LGBMClassifier(**quiet), lambda: lightgbm.LGBMRegressor(**quiet)),
    ]


def table() -> tuple[Any, Any]:
    """A data frame with columns of categories, and classes."""
    import pandas as pd

    random = np.random.default_rng(SEED)
    zone, town, size = random.choice([10, 20, 30], ROWS), random.choice(TOWNS, ROWS), random.normal(size=ROWS)
    classes = ((zone == 20).astype(int) + (town == "Gouda") + (size > 0)) % 3
    return pd.DataFrame({"zone": pd.Categorical(zone), "size": size, "town": pd.Categorical(town)}), classes


def matrix() -> tuple[Any, Any, Any]:
    """Numbers without names, a number to predict, and classes."""
    random = np.random.default_rng(SEED)
    x = random.normal(size=(ROWS, 5))
    number = np.exp(x[:, 0] + np.sin(3 * x[:, 1]) / 2)
    return x, number, np.digitize(number, np.quantile(number, [0.3, 0.6]))


def both(second: Any) -> Any:
    """Probabilities of all classes, where the second one's of two is given."""
    return np.column_stack([1 - second, second]) if second.ndim == 1 else second


def labelled(probabilities: Any) -> dict[str, Any]:
    """The answers of a classifier of numbered classes, of which a booster gives the probabilities only."""
    found = both(probabilities)
    return {"predict": found.argmax(axis=1), "predict_proba": found}


def _plain(answer: Any) -> Any:
    found = np.asarray(answer)
    return found.astype(str) if found.dtype == object else found


def _storable(column: Any) -> Any:
    if column.dtype.kind in "fib":
        return column
    return np.array([MISSING if cell is None or cell != cell else str(cell) for cell in column])
