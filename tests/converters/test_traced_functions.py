"""Functions of users in a FunctionTransformer: traced, and beside what the function itself answers."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from converters.sklearn.recipes.traced import trace
from converters.sklearn.recipes.traced_numbers import UntraceableError
from edgepack.errors import ConversionError
from packager.models.conversion import served
from packager.workspaces.workspace import Workspace
from tests.converters.support.predictor_answers import to_onnx
from tests.converters.support.transformer_answers import require_same_matrix, require_same_table

pytestmark = pytest.mark.filterwarnings("ignore")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(50, 3)) * 5
X[:3] = [[0, 1, -1], [1e-9, -0.0, 24], [-24, 12.5, 0.5]]
WEIGHTS = RANDOM.normal(size=(3, 4))
TABLE = pd.DataFrame(
    {
        "hour": RANDOM.integers(0, 24, 40).astype(float),
        "fare": RANDOM.normal(size=40) * 10,
        "n": RANDOM.integers(0, 5, 40),
    }
)


def _haversine(x: Any) -> Any:
    a, b, c = np.radians(x).T
    part = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(c / 2) ** 2
    return (2 * 6371 * np.arcsin(np.sqrt(part)))[:, None]


def _in_place(x: Any) -> Any:
    x = x.copy()
    x[x < -3] = 0
    x[:, 0] = np.log1p(np.abs(x[:, 0]))
    x[:, 1] += 3
    return x


OF_ARRAYS: dict[str, Callable[[Any], Any]] = {
    "time of day": lambda x: np.column_stack([np.sin(2 * np.pi * x[:, 0] / 24), np.cos(x[:, 0]), x[:, 1:]]),
    "haversine": _haversine,
    "in place": _in_place,
    "choices": lambda x: np.c_[x, np.where((x[:, 0] > 0) & (x[:, 1] < 2), 1.0, 0.0)],
    "select": lambda x: np.select([x > 3, x > 1], [2, 1], 0),
    "plus": lambda x: x + 1,
    "itself": lambda x: x,
    "clip": lambda x: np.hstack([np.clip(x, -1, 1), x.clip(0, 2)]),
    "round": lambda x: np.hstack([np.round(x, 1), x.round()]),
    "remainders": lambda x: np.hstack([x % 7, x // 3, x % -1.7, x // -1.7]),
    "powers": lambda x: np.hstack([x**2, np.abs(x) ** 0.5, np.abs(x) ** 1.3, x**3]),
    "along rows": lambda x: np.column_stack([x.max(axis=1), np.min(x, axis=1), x.sum(axis=1), np.mean(x, axis=1)]),
    "spread": lambda x: x.std(axis=1, keepdims=True),
    "norm": lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
    "product": lambda x: np.dot(x @ WEIGHTS, WEIGHTS.T),
    "types": lambda x: np.hstack([x.astype(int), x.astype(np.float32), (x > 0).astype(float)]),
    "true or false": lambda x: (x > 0) | ~(x < 2),
    "missing": lambda x: np.where(np.isnan(x), -1, np.nan_to_num(x)),
    "angles": lambda x: np.hstack([np.arctan(x), np.arctan2(x, x[:, ::-1]), np.arccos(np.clip(x, -1, 1))]),
    "lengths": lambda x: np.hypot(x, x[:, ::-1]),
    "signs": lambda x: np.hstack([np.sign(x), np.copysign(3.0, x), np.heaviside(x, 0.5)]),
    "differences": lambda x: np.hstack([np.diff(x, axis=1), np.cumsum(x, axis=1)]),
    "constants": lambda x: np.column_stack([x, np.ones(len(x)), np.full(x.shape[0], 7)]),
    "order": lambda x: np.column_stack([x[:, 2], np.sin(x[:, 0]), x[:, 1], np.sin(x[:, 2])]),
    "loops": lambda x: [[value + 1 for value in row] for row in x],
    "vectorize": np.vectorize(lambda value: value * 2 + 1),
    "any": lambda x: np.any(x > 3, axis=1, keepdims=True),
    "comparisons": lambda x: np.hstack([x == 1, x != 1, x >= 0, x <= 0]),
}


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_a_function_of_arrays(name: str) -> None:
    require_same_matrix(FunctionTransformer(OF_ARRAYS[name]).fit(X), X)


def _more(frame: Any) -> Any:
    frame = frame.copy()
    frame["log"] = np.log1p(frame["fare"].abs())
    frame[frame < 0] = 0
    frame["total"] = frame["fare"] + frame.n
    return frame.drop(columns=["n"])


OF_FRAMES: dict[str, Callable[[Any], Any]] = {
    "time of day": lambda f: pd.DataFrame({"s": np.sin(f["hour"] / 24), "c": np.cos(f["hour"] / 24)}),
    "assign": lambda f: f.assign(ratio=f["fare"] / (f["n"] + 1)),
    "more": _more,
    "stack": lambda f: np.column_stack([np.sin(f["hour"]), f["fare"].values * 2]),
    "conditions": lambda f: pd.DataFrame({"night": np.where(f["hour"] < 6, 1, 0), "rush": f["hour"].between(7, 9)}),
    "numbers": lambda f: np.where(f.to_numpy() > 1, f.iloc[:, ::-1].values, 2.0),
    "types": lambda f: (f > 3).astype(int) + f.clip(0, 5).astype(float),
    "along rows": lambda f: pd.concat([f.sum(axis=1), f.mean(axis=1), f.max(axis=1)], axis=1),
    "names": lambda f: f.rename(columns={"n": "m"}).assign(z=lambda g: g.m % 2).fillna(0),
    "columns": lambda f: f[["fare", "hour"]].apply(lambda column: column * 2),
    "masks": lambda f: f.where(f > 0, -1).mask(f > 3, 3),
}


@pytest.mark.parametrize("name", OF_FRAMES)
def test_a_function_of_data_frames(name: str) -> None:
    require_same_table(FunctionTransformer(OF_FRAMES[name]).fit(TABLE), TABLE)


def test_keyword_arguments_are_given() -> None:
    require_same_matrix(FunctionTransformer(np.round, kw_args={"decimals": 1}).fit(X), X)
    scaled = FunctionTransformer(lambda x, by: x / by, kw_args={"by": np.array([1.0, 2.0, 4.0])})
    require_same_matrix(scaled.fit(X), X)


def test_the_inverse_of_a_target_is_traced_too() -> None:
    model = TransformedTargetRegressor(
        LinearRegression(), func=lambda y: np.log(y + 30), inverse_func=lambda y: np.maximum(np.exp(y) - 30, -20)
    )
    session = to_onnx(model.fit(X, X[:, 0] + 1), [("X", DoubleTensorType([None, 3]))])
    np.testing.assert_allclose(session.run({"X": X})[0].ravel(), model.predict(X), rtol=1e-9)


UNTRACEABLE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "means": (lambda x: x - x.mean(axis=0), "other rows"),
    "rows counted": (lambda x: x / len(x), "how many there are"),
    "chance": (lambda x: x + RANDOM.random(), "by chance"),
    "neighbours": (lambda x: np.roll(x, 1, axis=0), "other rows"),
    "sums so far": (lambda x: np.cumsum(x, axis=0), "other rows"),
    "the first": (lambda x: x - x[0], "other rows"),
    "all": (lambda x: x / x.sum(), "other rows"),
    "branches": (lambda x: x if x[0, 0] > 3 else -x, r"use np\.where"),
    "math": (lambda x: [[math.sin(value) for value in row] for row in x], "plain numbers"),
    "one number": (lambda x: x[:, 0], "one number a row"),
    "sorted": (lambda x: np.sort(x, axis=1), "decides by a number"),
    "chosen": (lambda x: x[x[:, 0] > 0], "chooses numbers by a condition"),
    "text": (lambda x: x.astype(str), "makes <U0 of numbers"),
    "no form": (lambda x: np.logaddexp(x, 0), r"np\.logaddexp"),
    "nothing": (lambda x: None, "where a table"),
    "no columns": (lambda x: x[:, :0], "where a table"),
    "an error": (lambda x: 1 / 0, "ZeroDivisionError"),
    "complex": (lambda x: x * 1j, "complex"),
}


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_what_is_no_function_of_each_row_is_refused_with_the_reason(name: str) -> None:
    function, reason = UNTRACEABLE[name]
    with pytest.raises(UntraceableError, match=reason):
        trace(function, 3)


def test_a_refusal_names_the_function_and_the_way_out() -> None:
    with pytest.raises(ConversionError, match="calls a lambda, which treats a row by what is in other rows") as caught:
        require_same_matrix(FunctionTransformer(lambda x: x - x.mean(axis=0)).fit(X), X)
    assert "np.column_stack" in (caught.value.hint or "")


TRAIN = """
import joblib, numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
import features

x = np.random.default_rng(0).normal(size=(60, 2))
model = make_pipeline(FunctionTransformer(features.waves, kw_args={"period": 24}), LinearRegression())
joblib.dump(model.fit(x, x[:, 0]), "model.joblib")
"""
FEATURES = """
import numpy as np
import turns

def waves(x, period):
    return np.column_stack([np.sin(turns.FULL * x[:, 0] / period), x[:, 1]])
"""


def test_a_function_in_a_module_beside_the_model_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "of the user"
    folder.mkdir()
    (folder / "features.py").write_text(FEATURES)
    (folder / "turns.py").write_text("FULL = 6.283185307179586")
    (folder / "train.py").write_text(TRAIN)
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True)
    workspace = Workspace(tmp_path / "ws", tmp_path / "cache")
    model = workspace.models.register("waves", folder)
    assert served(workspace.models, model, workspace.cache, refusals=workspace.refusals) is not None
    alone = workspace.models.register("alone", folder / "model.joblib")
    with pytest.raises(ConversionError, match="needs the Python module 'features'") as caught:
        served(workspace.models, alone, workspace.cache, refusals=workspace.refusals)
    assert "put features.py beside the model file and register the folder" in (caught.value.hint or "")
