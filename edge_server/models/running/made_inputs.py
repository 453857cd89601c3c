"""Inputs that are made up, within what a model says that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array
    from edge_server.models.files.manifest import InputSpec


def made_input(spec: InputSpec, sizes: tuple[int, ...]) -> Array:
    """An input of that shape, whose values differ from row to row."""
    count = int(np.prod(sizes))
    if spec.only is not None:
        values: list[Any] = sorted(spec.only, key=repr)
        flat = np.array([values[position % len(values)] for position in range(count)], dtype=_dtype(spec))
    elif spec.dtype == "string":
        flat = np.array([spec.missing or str(position % 3) for position in range(count)], dtype=object)
    elif spec.dtype.startswith("float"):
        # 37 is prime: no column is the same in all rows.
        flat = ((np.arange(count) % 37) / 37).astype(spec.dtype)
    else:
        lowest = spec.minimum or 0
        span = 2 if spec.maximum is None else min(2, spec.maximum - lowest + 1)
        flat = (lowest + np.arange(count) % max(1, span)).astype(spec.dtype)
    return flat.reshape(sizes)


def _dtype(spec: InputSpec) -> Any:
    return object if spec.dtype == "string" else spec.dtype
