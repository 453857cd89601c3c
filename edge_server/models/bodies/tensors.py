"""Converts JSON values and binary arrays to the graph's inputs; refuses values that the model would misread."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_server.errors import BadRequest
from edge_server.models.bodies.faults import MAX_RANK, location, refuse, refuse_leaf, some, unravel, without_values
from edge_server.models.files.manifest import InputSpec, Rejects
from edge_server.models.files.operators import EmptyAxes

if TYPE_CHECKING:
    # Only for the type checker: at run time it would cost an import.
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_FLOAT32_MAX = float(np.finfo(np.float32).max)
# struct packs Python's numbers in half of numpy's time, and refuses all else: text, null, lists, numbers that the type
# cannot hold. Standard sizes ("="), since the native ones do not check for overflow.
_CODES = {"float16": "e", "float32": "f", "float64": "d", "int8": "b", "int16": "h", "int32": "i", "int64": "q"}
_CODES |= {"uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q"}
# Numbers that an empty array would have with 1 in place of 0: outputs may have as many, however short the body is.
_MOST_EMPTY = 1 << 20
# Packed at once: the bytes of all of them are held twice for a moment.
_BLOCK = 65536
_NUMBERS = {int, float, bool}


class Reader:
    """Makes the arrays of one input. Calls may come from several threads at once.

    ``empty_axes`` says whether axes other than the first may be of length 0; None for any. No rows at all are left to
    the call.
    """

    def __init__(self, spec: InputSpec, rejects: Rejects, empty_axes: EmptyAxes | None = None) -> None:
        self.spec = spec
        self._empty_axes = empty_axes
        self.rejects = rejects
        self.rank = None if spec.shape is None else len(spec.shape)
        self.dtype = np.dtype(object if spec.dtype == "string" else spec.dtype)
        self._code = _CODES.get(spec.dtype)
        self._shape = spec.shape
        self._width = spec.width or -1
        table = spec.width and spec.shape is not None and spec.shape[0] is None
        self._pack_row = _pack(spec.width, self._code) if table and spec.width and self._code else None
        self._huge = rejects.huge and spec.dtype == "float64"
        self._limited = spec.only is not None or spec.minimum is not None or spec.maximum is not None

    def read(self, value: Any) -> Array:
        """The array of nested lists of JSON; a plain list is taken for a table of one column.

        A null is a missing value: NaN in a float input, its own text in a string input. Raises BadRequest for a
        wrong rank, width or type, ragged rows, numbers that the dtype cannot hold, and what the model refuses.
        """
        if self._pack_row is not None and type(value) is list and value:
            # Rows of known width, packed one by one; packing fails for anything but a row of so many numbers.
            try:
                packed = self._pack_row(*value[0]) if len(value) == 1 else b"".join(starmap(self._pack_row, value))
            except (struct.error, TypeError, OverflowError):
                pass  # the fault is found below
            else:
                array: Array = np.ndarray((len(value), self._width), self.dtype, packed)
                return self._checked(array) if self._huge or self._limited else array
        if self.spec.width == 1 and _is_plain_list(value):
            return self.read_flat(value, (len(value), 1))
        found = _flatten(value, self._shape)
        if found is None:
            refuse(value, self.spec, self.rejects)
        return self.read_flat(*found)

    def read_flat(self, flat: Sequence[Any], shape: tuple[int, ...]) -> Array:
        """The array of ``shape``, which fits the input, of its values in reading order."""
        if not flat:
            return self._without_values(np.empty(shape, self.dtype))
        code = self._code
        if code is None:
            array = self._texts(flat, shape) if self.spec.dtype == "string" else self._truths(flat, shape)
        else:
            try:
                array = _packed(flat, code, self.dtype).reshape(shape)
            except (struct.error, OverflowError):
                array = (self._floats if self.dtype.kind == "f" else self._integers)(flat, shape)
        return self._checked(array)

    def _checked(self, array: Array) -> Array:
        if self._huge:
            self._check_huge(array)
        if self._limited:
            self._check_limits(array)
        return array

    def check(self, array: Array) -> Array:
        """Check a binary array against the input's dtype, shape and values; BadRequest where it does not fit. A missing
        text (None) becomes the input's text for it.
        """
        spec = self.spec
        if array.dtype != self.dtype:
            raise BadRequest(f"{location(spec, ())} has type {array.dtype}, the model takes {spec.dtype}")
        if not _shape_fits(array.shape, self._shape):
            wanted = ["any" if size is None else size for size in self._shape or ()]
            raise BadRequest(
                f"{location(spec, ())} has shape {list(array.shape)}, the model takes {_bracketed(wanted)}"
            )
        if not array.size:
            if math.prod(size or 1 for size in array.shape) > _MOST_EMPTY:
                raise BadRequest(f"{location(spec, ())} has the shape {list(array.shape)}, which is too large")
            return self._without_values(array)
        kind = self.dtype.kind
        if kind == "O":
            array = self._texts(array.ravel().tolist(), array.shape)
        elif kind == "f" and not _is_finite(array):
            if self.rejects.nan:
                self._refuse(np.isnan(array), "NaN, and the model takes no missing values")
            if self.rejects.infinity:
                self._refuse(np.isinf(array), "infinite, and the model takes finite numbers")
            self._check_complete(array)
        if self._huge:
            self._check_huge(array)
        if self._limited:
            self._check_limits(array)
        return array

    def cast(self, array: Array) -> Array:
        """An array of numbers in the input's dtype; BadRequest when a number would change.

        Floating-point numbers are rounded, as those of JSON are.
        """
        spec = self.spec
        if array.dtype == self.dtype:
            return array
        kind, wanted = array.dtype.kind, self.dtype.kind
        if kind == "U" and wanted == "O":
            return array.astype(object)
        if kind in "iuf" and wanted == "f":
            with np.errstate(over="ignore"):
                cast = array.astype(self.dtype)
            overflown = np.isinf(cast) & np.isfinite(array)
        elif kind in "iuf" and wanted in "iu":
            with np.errstate(invalid="ignore"):
                cast = array.astype(self.dtype)
            # -1 as an unsigned number, and what a float's cast leaves beyond the range, come back as another number.
            overflown = (cast != array) | ((cast < 0) != (array < 0))
            if kind == "f":
                # The upper bound rounds up to a power of two, and comes back the same.
                overflown |= array >= float(2 ** (8 * self.dtype.itemsize - (wanted == "i")))
        else:
            raise BadRequest(f"{location(spec, ())} has type {array.dtype}, the model takes {spec.dtype}")
        if overflown.any():
            index = _first(overflown)
            raise BadRequest(f"{location(spec, index)} is {array[index]!s}, which {spec.dtype} cannot hold")
        return cast

    def _without_values(self, array: Array) -> Array:
        if array.shape[0] and self._empty_axes is not None and not self._empty_axes.borne:
            raise without_values(self.spec.name, array.shape)
        return array

    def _floats(self, flat: Sequence[Any], shape: tuple[int, ...]) -> Array:
        """Values that could not be packed: missing ones, too large ones, or other types."""
        kinds = set(map(type, flat)) - _NUMBERS
        if kinds - {type(None)} or (kinds and self.rejects.nan):
            refuse_leaf(flat, self.spec, shape, self.rejects)
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=np.float64).astype(self.dtype).reshape(shape)
        # JSON has no infinity: one here was a finite number too large for the dtype.
        overflown = np.isinf(array)
        if overflown.any():
            index = _first(overflown)
            value = float(flat[int(np.argmax(overflown))])
            raise BadRequest(f"{location(self.spec, index)} is {value!s}, which {self.spec.dtype} cannot hold")
        self._check_complete(array)
        return array

    def _integers(self, flat: Sequence[Any], shape: tuple[int, ...]) -> Array:
        """Values that could not be packed: whole numbers written as 2.0, out of range, or other types."""
        if set(map(type, flat)) - _NUMBERS:
            refuse_leaf(flat, self.spec, shape, self.rejects)
        limits: Any = np.iinfo(self.spec.dtype)
        least, largest = int(limits.min), int(limits.max)
        whole = []
        for position, value in enumerate(flat):
            number = int(value)
            if number != value or not least <= number <= largest:
                where = location(self.spec, unravel(position, shape))
                raise BadRequest(f"{where} is {value!s}, the model takes whole numbers ({self.spec.dtype})")
            whole.append(number)
        return np.array(whole, dtype=self.dtype).reshape(shape)

    def _truths(self, flat: Sequence[Any], shape: tuple[int, ...]) -> Array:
        if set(map(type, flat)) != {bool}:
            refuse_leaf(flat, self.spec, shape, self.rejects)
        return np.array(flat, dtype=bool).reshape(shape)

    def _texts(self, flat: Sequence[Any], shape: tuple[int, ...]) -> Array:
        kinds = set(map(type, flat))
        if kinds != {str}:
            missing = self.spec.missing
            if kinds - {str, type(None)} or missing is None:
                refuse_leaf(flat, self.spec, shape, self.rejects)
            flat = [missing if text is None else text for text in flat]
        return np.array(flat, dtype=object).reshape(shape)

    def _check_complete(self, array: Array) -> None:
        places = list(self.spec.complete)
        if places:
            gone = np.zeros(array.shape, dtype=bool)
            gone[..., places] = np.isnan(array[..., places])
            self._refuse(gone, "null, and the model takes no missing values there")

    def _check_huge(self, array: Array) -> None:
        huge = np.abs(array) > _FLOAT32_MAX
        if huge.any():
            value = array[_first(huge)]
            self._refuse(huge, f"{value!s}, the model takes no more than float32 can hold")

    def _check_limits(self, array: Array) -> None:
        spec = self.spec
        wrong = np.zeros(array.shape, dtype=bool)
        phrase = ""
        if spec.only is not None:
            known = spec.only if spec.missing is None else spec.only | {spec.missing}
            wrong = np.array([item not in known for item in array.ravel().tolist()], dtype=bool).reshape(array.shape)
            phrase = "which is not one of the values that the model takes"
        if spec.minimum is not None:
            wrong |= array < spec.minimum
            phrase = f"the model takes whole numbers from {spec.minimum}"
        if spec.maximum is not None:
            wrong |= array > spec.maximum
            phrase = f"the model takes whole numbers from {spec.minimum or 0} to {spec.maximum}"
        if wrong.any():
            value = array[_first(wrong)]
            shown = repr(value)[:80] if isinstance(value, str) else str(value)
            if spec.only is not None and spec.minimum is None and spec.maximum is None:
                phrase += f": {some(spec.only)}"
            self._refuse(wrong, f"{shown}, {phrase}")

    def _refuse(self, wrong: Array, phrase: str) -> None:
        if wrong.any():
            raise BadRequest(f"{location(self.spec, _first(wrong))} is {phrase}")


def _is_finite(array: Array) -> bool:
    # One number that is not finite makes the sum of squares not finite; so may large ones, which are then checked one
    # by one.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def check_rows(arrays: dict[str, Array]) -> None:
    """Raise BadRequest when the inputs, which belong together row by row, differ in length."""
    lengths = {name: array.shape[0] for name, array in arrays.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        phrase = ", ".join(f"'{name}' has {length}" for name, length in lengths.items())
        raise BadRequest(f"all inputs must have the same number of rows: {phrase}")


def _packed(flat: Sequence[Any], code: str, dtype: Any) -> Array:
    count = len(flat)
    if count <= _BLOCK:
        return np.frombuffer(_pack(count, code)(*flat), dtype)
    array = np.empty(count, dtype)
    for start in range(0, count, _BLOCK):
        part = flat[start : start + _BLOCK]
        array[start : start + _BLOCK] = np.frombuffer(_pack(len(part), code)(*part), dtype)
    return array


@lru_cache(maxsize=256)
def _pack(count: int, code: str) -> Callable[..., bytes]:
    return struct.Struct(f"={count}{code}").pack


def _flatten(value: Any, shape: tuple[int | None, ...] | None) -> tuple[Sequence[Any], tuple[int, ...]] | None:
    """The values in reading order, and their shape; None when it is ragged or is not ``shape``."""
    rank = _rank(value) if shape is None else len(shape)
    if not rank:
        return None if isinstance(value, list) else ([value], ())
    if type(value) is not list:
        return None
    sizes = [len(value)]
    flat: Sequence[Any] = value
    for axis in range(1, rank):
        if not flat:
            # An empty list does not show the lengths below it.
            sizes += [1] * (rank - axis) if shape is None else [1 if size is None else size for size in shape[axis:]]
            break
        if len(flat) == 1:
            inner = flat[0]
            if type(inner) is not list:
                return None
            sizes.append(len(inner))
            flat = inner
            continue
        widths = set(map(len, flat)) if set(map(type, flat)) == {list} else ()
        if len(widths) != 1:
            return None
        sizes += widths
        flat = tuple(chain.from_iterable(flat))
    found = tuple(sizes)
    return (flat, found) if _shape_fits(found, shape) else None


def _rank(value: Any) -> int:
    rank = 0
    while isinstance(value, list):
        rank += 1
        if rank > MAX_RANK:
            raise BadRequest(f"lists may not be nested deeper than {MAX_RANK} levels")
        value = value[0] if value else None
    return rank


def _shape_fits(found: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
    if wanted is None:
        return True
    if len(found) != len(wanted):
        return False
    return not [size for size, needed in zip(found, wanted, strict=True) if needed is not None and size != needed]


def _is_plain_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not isinstance(value[0], (list, dict))


def _first(mask: Array) -> tuple[int, ...]:
    return tuple(int(position) for position in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _bracketed(sizes: list[Any]) -> str:
    return f"[{', '.join(map(str, sizes))}]"
