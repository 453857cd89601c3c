"""One run that a request asks for: its inputs, its outputs, and how the answer is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_server.http.messages import Response
    from edge_server.models.bodies.tensors import Array


@dataclass(slots=True)
class ModelCall:
    """``arrays`` by the model's input names (checked: dtype, shape, values); ``outputs`` are names of the model's
    outputs.

    ``rows`` is the common length of axis 0 where the call may be joined with others of an equal ``kind``, made of the
    outputs and the shapes beyond axis 0; None where it must run alone. ``write`` makes the response from the outputs'
    values, in the order of ``outputs``, each with ``rows`` rows where rows is not None.
    """

    arrays: Mapping[str, Array]
    outputs: tuple[str, ...]
    rows: int | None
    kind: object
    write: Callable[[list[Any]], Response]


class MadeUpCall(ModelCall):
    """A call of arrays that nobody sent, so that they are not collected."""

    __slots__ = ()


def kind_of(arrays: Mapping[str, Array], outputs: tuple[str, ...]) -> object:
    """A value that is equal for calls that can be one run."""
    return outputs, {name: array.shape[1:] for name, array in arrays.items()}
