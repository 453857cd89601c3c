"""A transformer beside the graph that our recipes make of it, in process: matrices, and tables of mixed columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.inputs import MISSING_TEXT
from tests.converters.support.predictor_answers import to_onnx

RTOL, ATOL = 1e-9, 1e-10


def dense(answer: Any) -> Any:
    """An answer of scikit-learn's as an array."""
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def around(values: Any) -> Any:
    """Values, and those one unit in the last place below and above them."""
    values = np.asarray(values, dtype=float)
    return np.concatenate([values, np.nextafter(values, -np.inf), np.nextafter(values, np.inf)])


def require_equal(
    model: Any, given: Any, types: list[tuple[str, Any]], feeds: Any, *, rtol: float = RTOL, alone: bool = True
) -> None:
    """Assert that many rows, and each of the first rows ``alone``, are transformed alike."""
    session = to_onnx(model, types)
    method = model.transform if hasattr(model, "transform") else model.predict
    for rows in (slice(None), slice(0, 1), slice(1, 2))[: 3 if alone else 1]:
        part = given.iloc[rows] if hasattr(given, "iloc") else given[rows]
        wanted, found = dense(method(part)), session.run(feeds(part))[0]
        assert found.shape == wanted.shape
        if wanted.dtype.kind in "OU":
            assert found.tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(found, wanted.astype(float), rtol=rtol, atol=ATOL)


def require_same_matrix(model: Any, x: Any, *, rtol: float = RTOL, alone: bool = True) -> None:
    """The same for a model that takes one matrix of float64."""
    from skl2onnx.common.data_types import DoubleTensorType

    types = [("X", DoubleTensorType([None, x.shape[1]]))]
    require_equal(model, x, types, lambda part: {"X": part}, rtol=rtol, alone=alone)


def require_same_texts(model: Any, texts: Any, *, rtol: float = RTOL) -> None:
    """The same for a model that takes texts, or a matrix of them."""
    from skl2onnx.common.data_types import StringTensorType

    width = np.asarray(texts, dtype=object).reshape(len(texts), -1).shape[1]
    types = [("X", StringTensorType([None, width]))]
    require_equal(model, texts, types, lambda part: {"X": _text(part).reshape(len(part), width)}, rtol=rtol)


def require_same_table(model: Any, frame: Any, *, rtol: float = RTOL) -> None:
    """The same for a model that takes a data frame, one input a column, of that column's type."""
    from skl2onnx.common.data_types import BooleanTensorType, DoubleTensorType, Int64TensorType, StringTensorType

    kinds = {"f": DoubleTensorType, "i": Int64TensorType, "b": BooleanTensorType}
    types = [(name, kinds.get(frame[name].dtype.kind, StringTensorType)([None, 1])) for name in frame]

    def feeds(part: Any) -> dict[str, Any]:
        numeric = {name: part[name].dtype.kind in kinds for name in part}
        return {name: part[[name]].to_numpy() if numeric[name] else _text(part[[name]].to_numpy()) for name in part}

    require_equal(model, frame, types, feeds, rtol=rtol)


def _text(values: Any) -> Any:
    missing = [
        [MISSING_TEXT if cell is None or cell != cell else cell] for cell in np.asarray(values, dtype=object).ravel()
    ]
    return np.array(missing, dtype=object).reshape(np.shape(values))
