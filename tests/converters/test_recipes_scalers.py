"""Scalers answer what scikit-learn's do to the last bit, in float64 and in float32, and of whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from converters.graph import edits
from converters.graph.session import Session
from converters.sklearn import recipes

SCALES, MIDDLES = [1e-8, 1, 1e5, 1e9, 3, 1], [0, 5, 1e6, 1.6e9, -2, 7]
SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    StandardScaler(with_mean=False, with_std=False),
    MinMaxScaler(),
    MinMaxScaler((-1, 3), clip=True),
    MaxAbsScaler(),
    *([MaxAbsScaler(clip=True)] if "clip" in MaxAbsScaler().get_params() else []),
    RobustScaler(),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
    RobustScaler(unit_variance=True),
]


def _session(model: Any, types: list[tuple[str, Any]]) -> Session:
    from skl2onnx import convert_sklearn

    with recipes.registered(ours=True):
        made = convert_sklearn(model, initial_types=types, target_opset={"": 18, "ai.onnx.ml": 3})
    edits.check(made)
    return Session(edits.serialize(made))


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_every_bit_is_that_of_the_original(scaler: Any, dtype: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    random = np.random.default_rng(0)
    fitted = random.normal(size=(300, 6)) * SCALES + MIDDLES
    fitted[:, 5] = 7.0  # a column without spread
    x = (random.normal(size=(2000, 6)) * SCALES * 3 + MIDDLES).astype(dtype)
    x[::9, 2] = np.nan
    kind = DoubleTensorType if dtype == np.float64 else FloatTensorType
    for data in (fitted, fitted.astype(dtype)):
        scaler.fit(data)
        (found,) = _session(scaler, [("X", kind([None, 6]))]).run({"X": x})
        expected = scaler.transform(x)
        assert found.dtype == expected.dtype == dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), RobustScaler()], ids=str)
def test_columns_of_whole_numbers_are_scaled_in_float64(scaler: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType

    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"seconds": 1_700_000_000 + random.integers(0, 10**7, 500), "price": random.normal(size=500) * 1e3}
    )
    scaler.fit(frame)
    session = _session(scaler, [("seconds", Int64TensorType([None, 1])), ("price", DoubleTensorType([None, 1]))])
    (found,) = session.run({name: frame[name].to_numpy().reshape(-1, 1) for name in frame})
    np.testing.assert_array_equal(found, scaler.transform(frame))
