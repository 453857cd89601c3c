"""Boosters for tests: where their packages are, data that has missing values, and rows that lie on thresholds."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

PACKAGES = ("xgboost", "lightgbm", "catboost")


def require(*packages: str) -> list[Any]:
    """The modules; the test is skipped where one is missing, and fails where real parts are required."""
    found = []
    for name in packages:
        if os.environ.get("EDGEPACK_REQUIRE_REAL") == "1":
            found.append(importlib.import_module(name))
        else:
            found.append(pytest.importorskip(name))
    return found


def make(package: str, kind: str, **further: Any) -> Any:
    """A small untrained estimator of a package; ``kind`` is Classifier, Regressor or Ranker."""
    (module,) = require(package)
    usual: dict[str, dict[str, Any]] = {
        "xgboost": {"n_estimators": 12, "max_depth": 4, "n_jobs": 1},
        "lightgbm": {"n_estimators": 12, "num_leaves": 12, "n_jobs": 1, "verbose": -1},
        "catboost": {"iterations": 12, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1},
    }
    prefix = {"xgboost": "XGB", "lightgbm": "LGBM", "catboost": "CatBoost"}[package]
    return getattr(module, f"{prefix}{kind}")(**{**usual[package], **further})


def data(missing: float = 0.1, rows: int = 800) -> tuple[Any, Any]:
    """Rows of five columns of very different size, and a number to predict."""
    random = np.random.default_rng(3)
    x = np.column_stack(
        [
            random.normal(size=rows),
            random.uniform(0, 1e4, rows),
            1.6e9 + random.uniform(0, 3e7, rows),
            random.integers(0, 9, rows),
            random.normal(1e-3, 1e-4, rows),
        ]
    )
    target = np.sin(x[:, 0]) + x[:, 1] / 5e3 + (x[:, 2] - 1.6e9) / 1e7 + (x[:, 3] % 5 > 2)
    x[random.random(x.shape) < missing] = np.nan
    return x, target


def on_cuts(model: Any, x: Any, most: int = 1500) -> Any:
    """Rows with a value at a threshold of the booster, and one unit in the last place beside it, of either type."""
    from converters.boosters import load

    random = np.random.default_rng(4)
    found = load.thresholds(model)
    chosen = [found[place] for place in random.permutation(len(found))[: most // 5]]
    out = x[random.integers(0, len(x), 5 * len(chosen))].copy()
    for number, (feature, threshold) in enumerate(chosen):
        single = np.float32(threshold)
        out[5 * number : 5 * number + 5, feature] = (
            threshold,
            np.nextafter(threshold, np.inf),
            np.nextafter(threshold, -np.inf),
            np.nextafter(single, np.float32(np.inf)),
            np.nextafter(single, np.float32(-np.inf)),
        )
    return out


def session(model: Any, width: int) -> ort.InferenceSession:
    """The model converted in this process, by float64."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType
    from sklearn.base import is_classifier

    from converters.graph import forest
    from converters.sklearn import recipes

    with recipes.registered(ours=True):
        made = convert_sklearn(
            model,
            initial_types=[("X", DoubleTensorType([None, width]))],
            target_opset={"": 18, "ai.onnx.ml": 3},
            options={"zipmap": False} if is_classifier(model) else None,
        )
    forest.settle_opset(made)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def assert_equal(model: Any, x: Any, *, rtol: float = 2e-6, atol: float = 1e-7) -> None:
    """On clean rows, on thresholds, with more missing values and zeros, and for one row alone."""
    from sklearn.base import is_classifier

    running = session(model, x.shape[1])
    holes, zeros = x.copy(), x.copy()
    random = np.random.default_rng(5)
    holes[random.random(x.shape) < 0.3] = np.nan
    zeros[random.random(x.shape) < 0.3] = 0
    inner = model.steps[-1][1] if hasattr(model, "steps") else model
    for rows in (x, on_cuts(inner, x), holes, zeros, x[:1]):
        if not len(rows):
            continue
        results = running.run(None, {"X": rows})
        label = np.asarray(model.predict(rows)).reshape(results[0].shape)
        if is_classifier(model):
            np.testing.assert_array_equal(results[0], label)
            np.testing.assert_allclose(results[1], model.predict_proba(rows), rtol=rtol, atol=atol)
        else:
            np.testing.assert_allclose(results[0], label, rtol=rtol, atol=atol)


def graph_answers(model: Any, rows: Any) -> dict[str, Any]:
    """What the graph of a model out of a pickle answers to ``rows``, a data frame of what users send.

    Nothing is proven: what the conversion would compare it with is not asked.
    """
    from converters.boosters import load
    from converters.proof.samples import Table
    from converters.sklearn import attempts, inputs, sparse_input, training_columns
    from converters.sklearn.original import Original

    adapted = load.adapt(model)
    sparse_input.note(adapted)
    original = Original(adapted, tuple(rows.columns), True, "", ())
    trained = training_columns.columns(adapted, original.names)
    table = Table(original.names, tuple(rows[name].to_numpy() for name in rows))
    planned = inputs.plan(table, trained, original.by_name, "float64")
    graph, planned = attempts.build(original, planned, attempts.DOUBLE)
    running = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in running.get_outputs()]
    return dict(zip(names, running.run(None, planned.feeds(table)), strict=True))
