"""What is known of a model's inputs that are named tensors, and how its original is called. Neutral to frameworks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# What is drawn of whole numbers where a model takes all of a wide range.
ORDINARY_NUMBER = 1000
WORDS = ("", "a", "cat", "Dog", "the quick brown fox", "Zürich", "straße", "3.14", "未知", "UNSEEN")


class Reference(Protocol):
    """The original, as something that answers named arrays with named arrays."""

    def answer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name. Raises ``ConversionError`` when the original refuses these inputs."""
        ...


@dataclass(frozen=True)
class Spec:
    """An input: ``dtype`` is numpy's name for it or ``string``, ``shape`` has None for an axis of any length.

    ``values`` are those that matter (a vocabulary, thresholds) and are drawn often; ``closed`` says that the original
    takes no others. ``low`` and ``high`` are the least and the largest whole number that it takes, both included, None
    before it is first called.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    values: tuple[Any, ...] = ()
    low: int | None = None
    high: int | None = None
    closed: bool = False

    @property
    def kind(self) -> str:
        """``float``, ``int``, ``bool`` or ``string``."""
        return next(kind for kind in ("float", "uint", "int", "bool", "string") if kind in self.dtype).lstrip("u")

    @property
    def batched(self) -> bool:
        """Whether the first axis may have any length."""
        return bool(self.shape) and self.shape[0] is None

    @property
    def unknown(self) -> Any | None:
        """A value outside of the range or vocabulary that the original was found to take; None where it takes any."""
        if self.closed and self.kind == "string":
            return next(word for word in (WORDS[-1], WORDS[-1] * 2) if word not in self.values)
        if self.closed:
            return max(self.values) + 1
        return None if self.high is None or self.high >= min(ORDINARY_NUMBER, _largest(self.dtype)) else self.high + 1

    def sized(self, rows: int, length: int) -> tuple[int, ...]:
        """A shape with ``rows`` for an open first axis, ``length`` for the other open ones."""
        return tuple(
            (rows if number == 0 else length) if axis is None else axis for number, axis in enumerate(self.shape)
        )


@dataclass(frozen=True)
class Explored:
    """Inputs with the ranges that the original takes; ``lengths`` are one or two that suit the open axes."""

    specs: tuple[Spec, ...]
    lengths: tuple[int, ...]

    @property
    def batched(self) -> bool:
        """Whether the number of rows may be chosen."""
        return any(spec.batched for spec in self.specs)


def _largest(dtype: str) -> int:
    import numpy as np

    return int(np.iinfo(dtype).max)
