"""A predictor beside the graph that our recipes make of it: what each method answers, in process."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.datasets import make_classification, make_regression

from converters.graph import edits, forest
from converters.graph.session import Session
from converters.sklearn import recipes

METHODS = ("predict", "predict_proba", "decision_function", "score_samples")
# Sums of doubles in another order.
RTOL, ATOL = 1e-9, 1e-10


def classes(count: int, *, text: bool = True, columns: int = 6) -> tuple[Any, Any]:
    """Rows of ``count`` classes that overlap, named by text or by numbers."""
    x, y = make_classification(
        200, columns, n_informative=4, n_redundant=0, n_classes=count, n_clusters_per_class=1, random_state=1
    )
    return x, np.array(["a", "bb", "c"])[y] if text else y


def values(targets: int = 1, *, positive: bool = False) -> tuple[Any, Any]:
    """Rows with numbers to predict."""
    x, y = make_regression(150, 6, n_targets=targets, noise=2.0, random_state=0)
    return x, np.abs(y) / 50 + 0.2 if positive else y


def to_onnx(model: Any, types: list[tuple[str, Any]], *, ours: bool = True) -> Session:
    """The model's graph, by our recipes or by skl2onnx alone."""
    from skl2onnx import convert_sklearn

    options = {id(model): {"zipmap": False}} if is_classifier(model) else None
    with recipes.registered(ours=ours):
        made = convert_sklearn(model, initial_types=types, target_opset={"": 18, "ai.onnx.ml": 3}, options=options)
    forest.settle_opset(made)
    edits.check(made)
    return Session(edits.serialize(made))


def matrix_to_onnx(model: Any, columns: int, *, ours: bool = True) -> Session:
    """The graph of a model that takes one matrix of float64."""
    from skl2onnx.common.data_types import DoubleTensorType

    return to_onnx(model, [("X", DoubleTensorType([None, columns]))], ours=ours)


def answers(session: Session, feeds: dict[str, Any]) -> dict[str, Any]:
    """What the graph answers, by output."""
    return dict(zip([port.name for port in session.outputs], session.run(feeds), strict=True))


def expected(model: Any, given: Any) -> dict[str, Any]:
    """What the original answers, under the names that our recipes give the same; a list is one entry a target."""
    found: dict[str, Any] = {}
    usual = "probabilities" if hasattr(model, "predict_proba") else "scores"
    first = next((name for name in METHODS[1:] if hasattr(model, name)), None)
    for method in METHODS:
        if not hasattr(model, method):
            continue
        answer = getattr(model, method)(given)
        if isinstance(answer, list):
            found |= {f"{method}_{number}": one for number, one in enumerate(answer)}
        elif method == "predict":
            found["label" if first is not None or is_classifier(model) else "variable"] = answer
        elif method == first and np.ndim(found["label"]) == 1:
            found[usual] = answer
        else:
            found[method] = answer
    return found


def require_equal(model: Any, session: Session, given: Any, feeds: dict[str, Any]) -> set[str]:
    """Assert that every method answers alike; the names of the outputs that were compared."""
    results = answers(session, feeds)
    if "scores" not in results and "probabilities" in results and not hasattr(model, "predict_proba"):
        results["scores"] = results["probabilities"]
    wanted = expected(model, given)
    for name, right in wanted.items():
        left, right = results[name], np.asarray(right)
        if right.ndim == 1:
            assert left.shape in ((len(right),), (len(right), 1)), name
        else:
            assert left.shape == right.shape, name
        if right.dtype.kind in "OUS":
            assert left.reshape(right.shape).astype(str).tolist() == right.astype(str).tolist(), name
        elif name == "label":
            np.testing.assert_array_equal(left.reshape(right.shape), right, err_msg=name)
        else:
            np.testing.assert_allclose(left.reshape(right.shape), right, rtol=RTOL, atol=ATOL, err_msg=name)
    return set(wanted)


def require_same_answers(model: Any, x: Any) -> set[str]:
    """Assert that a fitted model's graph answers many rows, and one row alone, as the model does."""
    session = matrix_to_onnx(model, x.shape[1])
    require_equal(model, session, x[:1], {"X": x[:1].astype(np.float64)})
    return require_equal(model, session, x, {"X": x.astype(np.float64)})
