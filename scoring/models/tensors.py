"""JSON values to arrays, strictly: what the model would misread is refused, naming row and column.

Rows and columns count from 0, as they do in the arrays that models are trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.errors import BadRequest
from scoring.models.manifest import InputSpec, Rejects

if TYPE_CHECKING:
    # Only for the type checker: at run time it would cost an import.
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# numpy itself goes no further than 64, and no model comes near.
_MAX_RANK = 32
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def to_array(value: Any, spec: InputSpec, *, rejects: Rejects) -> Array:
    """Convert parsed JSON to the array that `spec` describes, and hold it to the values that the model takes.

    Raises BadRequest as `_array` does, and for a value outside of the input's limits.
    """
    array = _array(value, spec, rejects)
    if spec.only is not None or spec.minimum is not None or spec.maximum is not None:
        _check_limits(array, spec)
    if spec.complete:
        _check_complete(array, spec)
    return array


def _check_complete(array: Array, spec: InputSpec) -> None:
    gone = np.zeros(array.shape, dtype=bool)
    gone[..., list(spec.complete)] = np.isnan(array[..., list(spec.complete)])
    if gone.any():
        raise BadRequest(f"{_place(spec, _first(gone))} is null, and the model takes no missing values there")


def _check_limits(array: Array, spec: InputSpec) -> None:
    wrong = np.zeros(array.shape, dtype=bool)
    told = ""
    if spec.only is not None:
        known = spec.only if spec.missing is None else spec.only | {spec.missing}
        wrong = np.array([item not in known for item in array.ravel().tolist()], dtype=bool).reshape(array.shape)
        told = "which is none of the values that the model takes"
    if spec.minimum is not None:
        wrong |= array < spec.minimum
        told = f"the model takes whole numbers from {spec.minimum}"
    if spec.maximum is not None:
        wrong |= array > spec.maximum
        told = f"the model takes whole numbers from {spec.minimum or 0} to {spec.maximum}"
    if wrong.any():
        index = _first(wrong)
        value = array[index]
        shown = repr(value)[:80] if isinstance(value, str) else str(value)
        raise BadRequest(f"{_place(spec, index)} is {shown}, {told}")


def _array(value: Any, spec: InputSpec, rejects: Rejects) -> Array:
    """Convert parsed JSON to the array that `spec` describes.

    A null is a missing value: NaN in a float input, its own text in a string input; `rejects` says what the
    model refuses. A plain list is taken for a table of one column. Raises BadRequest for a wrong rank, width or
    type, ragged rows, and numbers that the dtype cannot hold.
    """
    if spec.shape is not None and spec.width == 1 and _is_plain_list(value):
        value = [[item] for item in value]
    if spec.dtype == "string":
        _complain_of_fault(value, spec, rejects)
        array = np.array(value, dtype=object)
        if spec.missing is not None:
            array[np.array([item is None for item in array.flat], dtype=bool).reshape(array.shape)] = spec.missing
        return array
    try:
        raw = np.array(value)
    except (ValueError, TypeError, OverflowError):
        raw = None
    if raw is None or raw.dtype.kind not in "biuf" or not _shape_fits(raw.shape, spec.shape):
        _complain_of_fault(value, spec, rejects)
        # Nothing wrong was found, so what is not a number is a null that stands for a missing value.
        raw = np.array(value, dtype=np.float64)
        if not _shape_fits(raw.shape, spec.shape):
            raise BadRequest(f"{_place(spec, ())} has an empty list where the model takes values")
    if spec.dtype == "bool":
        return _to_bool(raw, value, spec, rejects)
    if spec.dtype.startswith("float"):
        return _to_float(raw, spec, rejects)
    return _to_integer(raw, spec)


def check_rows(arrays: dict[str, Array]) -> None:
    """Raise BadRequest when the inputs, which belong together row by row, differ in length."""
    lengths = {name: array.shape[0] for name, array in arrays.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
        raise BadRequest(f"all inputs must have the same number of rows: {told}")


def _to_float(raw: Array, spec: InputSpec, rejects: Rejects) -> Array:
    with np.errstate(over="ignore"):
        array = raw.astype(spec.dtype)
    if rejects.huge and spec.dtype == "float64":
        huge = np.abs(array) > _FLOAT32_MAX
        if huge.any():
            index = _first(huge)
            raise BadRequest(f"{_place(spec, index)} is {raw[index]!s}, the model takes no more than float32 can hold")
    # JSON knows no infinity: one that is here was a finite number too large for the dtype.
    overflown = np.isinf(array)
    if overflown.any():
        index = _first(overflown)
        raise BadRequest(f"{_place(spec, index)} is {raw[index]!s}, which {spec.dtype} cannot hold")
    return array


def _to_integer(raw: Array, spec: InputSpec) -> Array:
    limits = np.iinfo(spec.dtype)
    wrong: Array
    if raw.dtype.kind == "f":
        # The upper bound itself rounds up to a power of two in float64, and is then out of range.
        wrong = (raw != np.floor(raw)) | (raw < float(limits.min)) | (raw >= float(limits.max) + 1)
    else:
        wrong = (raw < limits.min) | (raw > limits.max)
    if wrong.any():
        index = _first(wrong)
        raise BadRequest(f"{_place(spec, index)} is {raw[index]!s}, the model takes whole numbers ({spec.dtype})")
    return raw.astype(spec.dtype)


def _to_bool(raw: Array, value: Any, spec: InputSpec, rejects: Rejects) -> Array:
    if raw.dtype.kind != "b":
        _complain_of_fault(value, spec, rejects)
    return raw


def _complain_of_fault(value: Any, spec: InputSpec, rejects: Rejects) -> None:
    """Raise BadRequest for the first fault in reading order, if there is any."""
    shape = _concrete_shape(value, spec)
    _check_level(value, spec, shape, (), rejects)


def _concrete_shape(value: Any, spec: InputSpec) -> tuple[int, ...]:
    """The shape to hold the value to: fixed axes by the model, free ones by the first element.

    Where the value has too few levels for the model, the check that follows names the place.
    """
    axes = (None,) * _MAX_RANK if spec.shape is None else spec.shape
    shape: list[int] = []
    for size in axes:
        if spec.shape is None and not isinstance(value, list):
            break
        length = len(value) if isinstance(value, list) else 0
        shape.append(length if size is None else size)
        value = value[0] if length else None
    return tuple(shape)


def _check_level(value: Any, spec: InputSpec, shape: tuple[int, ...], index: tuple[int, ...], rejects: Rejects) -> None:
    depth = len(index)
    if depth == len(shape):
        problem = _leaf_problem(value, spec, rejects)
        if problem is not None:
            raise BadRequest(f"{_place(spec, index)} is {problem}")
        return
    if not isinstance(value, list):
        raise BadRequest(f"{_place(spec, index)} is {_name_of(value)}, {_needed(spec, depth)}")
    if len(value) != shape[depth]:
        free = spec.shape is None or spec.shape[depth] is None
        other = f"row 0 has {shape[depth]}" if free else f"the model takes {shape[depth]}"
        unit = "row" if depth == 0 else "value"
        count = f"{len(value)} {unit}{'' if len(value) == 1 else 's'}"
        raise BadRequest(f"{_place(spec, index)} has {count}, {other}")
    for position, item in enumerate(value):
        _check_level(item, spec, shape, (*index, position), rejects)


def _leaf_problem(value: Any, spec: InputSpec, rejects: Rejects) -> str | None:
    dtype = spec.dtype
    if dtype == "string":
        fits = isinstance(value, str) or (value is None and spec.missing is not None)
        return None if fits else f"{_name_of(value)}, the model takes strings"
    if dtype == "bool":
        return None if isinstance(value, bool) else f"{_name_of(value)}, the model takes true or false"
    if isinstance(value, (int, float)):
        return None
    if value is None and dtype.startswith("float"):
        return "null, and the model takes no missing values" if rejects.nan else None
    return f"{_name_of(value)}, the model takes numbers ({dtype})"


def _needed(spec: InputSpec, depth: int) -> str:
    if spec.shape is not None and len(spec.shape) == 2:
        return "the model takes a list of rows" if depth == 0 else "a row must be a list of values"
    rank = "" if spec.shape is None else f" of {len(spec.shape)} levels"
    return f"the model takes nested lists{rank}"


def _place(spec: InputSpec, index: tuple[int, ...]) -> str:
    table = spec.shape is not None and len(spec.shape) == 2
    if not index:
        return f"input '{spec.name}'"
    if len(index) == 1:
        return f"input '{spec.name}': row {index[0]}"
    if table and len(index) == 2:
        names = spec.columns
        name = f" ('{names[index[1]]}')" if names is not None and index[1] < len(names) else ""
        return f"input '{spec.name}': row {index[0]}, column {index[1]}{name}"
    return f"input '{spec.name}': element {''.join(f'[{position}]' for position in index)}"


def _name_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _first(mask: Array) -> tuple[int, ...]:
    return tuple(int(position) for position in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _shape_fits(found: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
    if wanted is None:
        return True
    return len(found) == len(wanted) and all(size in (None, length) for length, size in zip(found, wanted, strict=True))


def _is_plain_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not isinstance(value[0], (list, dict))
