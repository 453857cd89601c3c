"""Arrays of stand-ins: numpy itself does what only moves numbers, and what decides by them is recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from converters.sklearn.recipes.traced_numbers import UntraceableError, made


class TracedArray(np.ndarray):
    """An array of nodes and constants, as objects."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        """Record a function of numpy's for each number; see numpy's documentation of this method."""
        out = keywords.pop("out", (None,))[0]
        plain = [_plain(one) for one in inputs]
        if keywords.pop("where", True) is not True:
            raise UntraceableError(f"calls np.{ufunc.__name__} with where=; use np.where")
        if ufunc.signature is not None or not ufunc.__name__.isidentifier():
            result = ufunc(*plain)  # of matrices, or Python code that np.vectorize has wrapped: it sees each number
        elif ufunc.nout != 1:
            raise UntraceableError(f"calls np.{ufunc.__name__}, which has no ONNX form here")
        else:
            each = np.frompyfunc(functools.partial(made, ufunc.__name__), ufunc.nin, 1)
            keywords = {name: value for name, value in keywords.items() if name in ("axis", "keepdims")}
            if method == "reduce" and keywords.get("axis", 0) is None:
                plain, keywords = [plain[0].ravel()], {}
            called = each if method == "__call__" else getattr(each, method)
            result = called(*plain, **({} if method == "__call__" else keywords))
        if out is None:
            return traced(result)
        out[...] = result
        return out

    def __array_function__(self, func: Any, types: Any, args: Any, keywords: Any) -> Any:
        """Record what decides by numbers; all else only moves them."""
        own = _FUNCTIONS.get(func)
        if own is not None:
            return traced(own(*args, **keywords))
        found = func._implementation(*map(_deep_plain, args), **{k: _deep_plain(v) for k, v in keywords.items()})
        return traced(found)

    def __getitem__(self, key: Any) -> Any:
        """Numbers by their positions; a condition would choose others in each row."""
        if isinstance(key, TracedArray):
            raise UntraceableError("chooses numbers by a condition; use np.where")
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set numbers at positions, or to one number where a condition holds."""
        if isinstance(key, TracedArray):
            if key.shape != self.shape or np.ndim(value):
                raise UntraceableError("sets numbers that it chooses by a condition; use np.where")
            key, value = ..., _where(key, value, self)
        super().__setitem__(key, value)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """The array, or its only number."""
        return array[()] if return_scalar else traced(array)

    def astype(self, dtype: Any, *arguments: Any, **keywords: Any) -> Any:
        """The numbers as another type of numbers."""
        kind = np.dtype(dtype)
        if kind.kind == "O" or kind == np.float64:
            return self.copy()
        if kind.kind in "iu":
            return traced(np.frompyfunc(functools.partial(made, "truncated"), 1, 1)(_plain(self)))
        if kind == np.float32:
            return traced(np.frompyfunc(functools.partial(made, "float32"), 1, 1)(_plain(self)))
        if kind.kind == "b":
            return self != 0
        raise UntraceableError(f"makes {kind} of numbers")


def _kept(keywords: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keywords.items() if name == "keepdims"}


def traced(value: Any) -> Any:
    """``value`` as an array that records, where it is one of objects."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value.view(TracedArray)
    return value


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, TracedArray) else value


def _deep_plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_deep_plain, value))
    return _plain(value)


def _where(condition: Any, yes: Any = None, no: Any = None) -> Any:
    if yes is None or no is None:
        raise UntraceableError("calls np.where for positions, which depend on the numbers; give it both choices")
    return np.frompyfunc(functools.partial(made, "where"), 3, 1)(*map(_plain, (condition, yes, no)))


def _select(conditions: Sequence[Any], choices: Sequence[Any], default: Any = 0) -> Any:
    result = default
    for condition, choice in reversed(list(zip(conditions, choices, strict=True))):
        result = _where(condition, choice, result)
    return result


def _clip(array: Any, a_min: Any = None, a_max: Any = None, **keywords: Any) -> Any:
    low, high = keywords.get("min", a_min), keywords.get("max", a_max)
    found = array if low is None else np.maximum(array, low)
    return found if high is None else np.minimum(found, high)


def _round(array: Any, decimals: int = 0, **keywords: Any) -> Any:
    if decimals == 0:
        return np.rint(array)
    scale = 10.0 ** abs(decimals)
    return np.rint(array * scale) / scale if decimals > 0 else np.rint(array / scale) * scale


def _without_nan(array: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    largest = float(np.finfo(np.float64).max)
    high, low = (largest if posinf is None else posinf), (-largest if neginf is None else neginf)
    bounded = _where(np.equal(array, np.inf), high, _where(np.equal(array, -np.inf), low, array))
    return _where(np.isnan(array), nan, bounded)


def _reduced(ufunc: Any) -> Callable[..., Any]:
    return lambda array, axis=None, out=None, **keywords: ufunc.reduce(array, axis=axis, **_kept(keywords))


def _like(value: float) -> Callable[..., Any]:
    def filled(array: Any, *arguments: Any, **keywords: Any) -> Any:
        return np.full(array.shape, value)

    return filled


# Functions of numpy's that decide by the numbers, or make some of their own.
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where, np.select: _select, np.clip: _clip, np.round: _round, np.around: _round,
    np.nan_to_num: _without_nan, np.max: _reduced(np.maximum), np.min: _reduced(np.minimum),
    np.amax: _reduced(np.maximum), np.amin: _reduced(np.minimum), np.any: _reduced(np.logical_or),
    np.all: _reduced(np.logical_and),
    np.zeros_like: _like(0.0), np.ones_like: _like(1.0),
    np.real: lambda array: array, np.copy: lambda array, *_, **__: array.copy(),
}  # fmt: skip
