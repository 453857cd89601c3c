"""Data frames of stand-ins: what pandas decides by numbers is recorded, all else it does itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from converters.sklearn.recipes.traced_arrays import TracedArray, traced
from converters.sklearn.recipes.traced_numbers import UntraceableError


def frame(numbers: Any, names: Sequence[str]) -> Any:
    """A data frame of the array ``numbers`` with columns ``names``."""
    made, _ = _classes()
    return made(numbers, columns=list(names), dtype=object)


def _arrays(value: Any) -> Any:
    if isinstance(value, _Recording):
        return value.to_numpy()
    return type(value)(map(_arrays, value)) if isinstance(value, list | tuple) else value


class _Recording:
    """What a frame and a column have in common."""

    def to_numpy(self, *arguments: Any, **keywords: Any) -> Any:
        """The numbers as an array that records."""
        return traced(np.asarray(super().to_numpy(dtype=object)))  # type: ignore[misc]

    @property
    def values(self) -> Any:
        """As ``to_numpy``."""
        return self.to_numpy()

    def __getitem__(self, key: Any) -> Any:
        """Columns or rows by their names; a condition would choose others in each row."""
        if isinstance(key, _Recording | TracedArray):
            raise UntraceableError("chooses rows by a condition; use np.where")
        return super().__getitem__(key)  # type: ignore[misc]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set columns or rows, or what a condition of the same shape holds for, to one number."""
        if not isinstance(key, _Recording | TracedArray):
            super().__setitem__(key, value)  # type: ignore[misc]
            return
        if key.shape != self.shape or np.ndim(value):  # type: ignore[attr-defined, union-attr]
            raise UntraceableError("sets rows that it chooses by a condition; use np.where")
        self.iloc[:] = np.where(_arrays(key), value, self.to_numpy())  # type: ignore[attr-defined]

    def _like_this(self, numbers: Any) -> Any:
        if isinstance(numbers, np.ndarray) and numbers.shape == self.shape:  # type: ignore[attr-defined]
            place = {"index": self.index}  # type: ignore[attr-defined]
            place |= {"columns": self.columns} if numbers.ndim == 2 else {"name": self.name}  # type: ignore[attr-defined]
            return self._constructor(np.asarray(numbers), dtype=object, **place)  # type: ignore[attr-defined]
        return numbers

    def _cmp_method(self, other: Any, op: Callable[[Any, Any], Any]) -> Any:
        # By position: rows are in one order everywhere, and columns in that of the frame.
        return self._like_this(op(self.to_numpy(), _arrays(other)))

    _logical_method = _cmp_method

    def __invert__(self) -> Any:
        return self._like_this(~self.to_numpy())

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        """As ``TracedArray`` does it."""
        return self._like_this(getattr(ufunc, method)(*map(_arrays, inputs), **keywords))

    def __array_function__(self, func: Any, types: Any, args: Any, keywords: Any) -> Any:
        """As ``TracedArray`` does it."""
        return func(*map(_arrays, args), **{name: _arrays(value) for name, value in keywords.items()})

    def astype(self, dtype: Any, *arguments: Any, **keywords: Any) -> Any:
        """The numbers as another type of numbers."""
        return self._like_this(self.to_numpy().astype(dtype))

    def clip(self, lower: Any = None, upper: Any = None, **keywords: Any) -> Any:
        """The numbers between two others."""
        return self._like_this(np.clip(self.to_numpy(), lower, upper))

    def where(self, condition: Any, other: Any = np.nan, **keywords: Any) -> Any:
        """The numbers where a condition holds, else ``other``."""
        return self._like_this(np.where(_arrays(condition), self.to_numpy(), _arrays(other)))

    def mask(self, condition: Any, other: Any = np.nan, **keywords: Any) -> Any:
        """``other`` where a condition holds, else the numbers."""
        return self._like_this(np.where(_arrays(condition), _arrays(other), self.to_numpy()))

    def fillna(self, value: Any, **keywords: Any) -> Any:
        """``value`` in place of what is missing."""
        numbers = self.to_numpy()
        return self._like_this(np.where(np.isnan(numbers), value, numbers))

    def isna(self) -> Any:
        """Whether numbers are missing."""
        return self._like_this(np.isnan(self.to_numpy()))

    isnull = isna

    def between(self, left: Any, right: Any, inclusive: str = "both") -> Any:
        """Whether the numbers of a column are between two others."""
        numbers = self.to_numpy()
        low = numbers >= left if inclusive in ("both", "left") else numbers > left
        high = numbers <= right if inclusive in ("both", "right") else numbers < right
        return self._like_this(low & high)


def _along_rows(name: str, by: Callable[[TracedArray], Any]) -> Callable[..., Any]:
    def method(self: Any, axis: Any = 0, **keywords: Any) -> Any:
        if axis not in (1, "columns"):
            return getattr(super(type(self), self), name)(axis=axis, **keywords)
        return self._constructor_sliced(np.asarray(by(self.to_numpy())), index=self.index, dtype=object)

    return method


@cache
def _classes() -> tuple[Any, Any]:
    import pandas as pd

    class Column(_Recording, pd.Series):  # type: ignore[misc]
        """A column that records."""

        @property
        def _constructor(self) -> Any:
            return Column

        @property
        def _constructor_expanddim(self) -> Any:
            return Frame

    class Frame(_Recording, pd.DataFrame):  # type: ignore[misc]
        """A data frame that records."""

        @property
        def _constructor(self) -> Any:
            return Frame

        @property
        def _constructor_sliced(self) -> Any:
            return Column

        mean = _along_rows("mean", lambda numbers: numbers.mean(axis=1))
        max = _along_rows("max", lambda numbers: np.maximum.reduce(numbers, axis=1))
        min = _along_rows("min", lambda numbers: np.minimum.reduce(numbers, axis=1))

    return Frame, Column
