"""Triton's "Classification Extension": the largest values of an output as texts, each with its place and its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_server.errors import BadRequest
from edge_server.v2.head import Wanted

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array


def largest(value: Array, wanted: Wanted, classes: Sequence[Any]) -> Array:
    """The ``wanted.top`` largest values of the last axis, largest first, as ``value:index`` or ``value:index:class``.

    Equal ones are in the order of their places, and NaN comes last. BadRequest for texts and for a scalar.
    """
    if value.dtype.kind not in "iufb" or not value.ndim:
        raise BadRequest(f"the output {wanted.name!r:.80} has no numbers of which some are the largest")
    keys = value.astype(np.float64) if value.dtype.kind in "bf" else value
    # Sorted by what is not changed by negation: the least of a signed type has no opposite.
    order = np.flip(np.argsort(np.flip(np.where(np.isnan(keys), -np.inf, keys), -1), -1, kind="stable"), -1)
    places = (value.shape[-1] - 1 - order)[..., : wanted.top]
    found = np.take_along_axis(value, places, -1)
    named = len(classes) == value.shape[-1]
    number = "{:f}" if value.dtype.kind == "f" else "{:d}"
    texts = [
        f"{number.format(item)}:{place}" + (f":{classes[place]}" if named else "")
        for item, place in zip(found.ravel().tolist(), places.ravel().tolist(), strict=True)
    ]
    return np.array(texts, dtype=object).reshape(places.shape)
