"""First runs of a loaded model: they warm it up, and show whether requests may be batched."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_server.models.files.manifest import InputSpec
from edge_server.models.running.made_inputs import made_input
from edge_server.models.running.onnx_model import OnnxModel

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array

    Arrays = Mapping[str, Array]

# Runs of one row and of several differ by float32 rounding where matrix products take another path.
_RTOL = 1e-4
_ATOL = 1e-5
_ROWS = 3
_COMPARED_ROWS = 8
# Sizes to try for a free axis beside the first: most graphs take 1, images need some width.
_FREE_SIZES = (1, 64)


def warm(model: OnnxModel, known: Arrays | None) -> Arrays | None:
    """Run the model once, on inputs that are ``known`` to fit or else on made ones; return the inputs.

    None when no made inputs fit the model; its first request is then the first run.
    """
    if known is not None:
        _run(model, known)
        return known
    for size in _FREE_SIZES:
        made = {spec.name: made_input(spec, _sizes(spec, size)) for spec in model.inputs if not spec.unused}
        if _fits(model, made):
            return made
    return None


def answers_by_row(model: OnnxModel, arrays: Arrays) -> bool:
    """Whether each of the first rows of ``arrays`` gets the same answer alone as among the others."""
    if any(array.ndim == 0 for array in arrays.values()):
        return False
    rows = min(len(array) for array in arrays.values())
    if rows < _ROWS:
        # With a single row there is nothing to compare.
        arrays = {name: np.concatenate([array[:rows]] * _ROWS) for name, array in arrays.items()}
        rows *= _ROWS
    rows = min(rows, _COMPARED_ROWS)
    try:
        together = _run(model, {name: array[:rows] for name, array in arrays.items()})
        if not all(isinstance(value, np.ndarray) and value.ndim and len(value) == rows for value in together):
            return False
        for row in range(rows):
            alone = _run(model, {name: array[row : row + 1] for name, array in arrays.items()})
            if not all(_agree(one, all_[row : row + 1]) for one, all_ in zip(alone, together, strict=True)):
                return False
    except Exception:  # noqa: BLE001 - a graph that does not take one row, or several, does not answer row by row
        return False
    return True


def run_seconds(model: OnnxModel, arrays: Arrays, rows: int) -> float | None:
    """How long a run of so many rows takes: the faster of two. None when the model does not take so many."""
    if any(array.ndim == 0 or not len(array) for array in arrays.values()):
        return None
    taken = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in arrays.items()}
    try:
        return min(_timed(model, taken) for _ in range(2))
    except Exception:  # noqa: BLE001 - as above
        return None


def _fits(model: OnnxModel, arrays: Arrays) -> bool:
    try:
        _run(model, arrays)
    # The runtime's errors have no base class; any of them means that these inputs do not fit.
    except Exception:  # noqa: BLE001
        return False
    return True


def _timed(model: OnnxModel, arrays: Arrays) -> float:
    started = time.perf_counter()
    _run(model, arrays)
    return time.perf_counter() - started


def _run(model: OnnxModel, arrays: Arrays) -> list[Any]:
    return model.run(arrays, [output.name for output in model.outputs])


def _agree(alone: Any, among: Any) -> bool:
    if not isinstance(alone, np.ndarray) or alone.shape != among.shape:
        return False
    if alone.dtype.kind == "f":
        return bool(np.allclose(alone, among, rtol=_RTOL, atol=_ATOL, equal_nan=True))
    return bool(np.array_equal(alone, among))


def _sizes(spec: InputSpec, size: int) -> tuple[int, ...]:
    """The input's shape, with some rows, and free axes of ``size``."""
    shape = (None,) if spec.shape is None else spec.shape
    first = [_ROWS if axis is None else axis for axis in shape[:1]]
    return (*first, *(size if axis is None else axis for axis in shape[1:]))
