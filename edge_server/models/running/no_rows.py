"""Requests without rows, or with another empty axis: answered without rows, in the shape and type of the outputs.

An engine need not take them: some operators fail, and some end the process. One row is run and cut off from its answer,
but where rows are not known to be apart, and the engine is known to bear their lack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from edge_server.errors import BadRequest
from edge_server.models.bodies.faults import without_values
from edge_server.models.running.call import MadeUpCall, ModelCall, kind_of
from edge_server.models.running.made_inputs import made_input

if TYPE_CHECKING:
    from edge_server.http.messages import Response
    from edge_server.models.bodies.tensors import Array
    from edge_server.models.files.manifest import InputSpec, Rejects
    from edge_server.models.files.operators import EmptyAxes


class Model(Protocol):
    """What has to be known of a model; ``OnnxModel`` is one."""

    inputs: Sequence[InputSpec]
    rejects: Rejects
    joinable: bool
    sample: Mapping[str, Array]
    empty_axes: EmptyAxes


def check_empty_axes(model: Model, arrays: Mapping[str, Array]) -> None:
    """BadRequest where an array has no values, and the engine may not be given that for this model."""
    for name, array in arrays.items():
        if not array.size and not model.empty_axes.borne:
            raise without_values(name, array.shape)


def call_without_rows(
    model: Model, arrays: Mapping[str, Array], outputs: tuple[str, ...], write: Callable[[list[Any]], Response]
) -> ModelCall:
    """The call of ``arrays``, which have no rows; BadRequest where the original model refuses that."""
    if model.rejects.empty:
        raise BadRequest("the request has no rows, and the original model takes one at least")
    if not model.joinable and model.empty_axes.borne:
        # What the rows have to do with each other is not known, so that the engine has to say it.
        return ModelCall(arrays, outputs, None, kind_of(arrays, outputs), write)
    specs = {spec.name: spec for spec in model.inputs}
    rows = {}
    for name, array in arrays.items():
        known = model.sample.get(name)
        shape = (1, *array.shape[1:])
        if not all(shape):
            check_empty_axes(model, arrays)
        rows[name] = known if known is not None and known.shape == shape else made_input(specs[name], shape)

    def cut(values: list[Any]) -> Response:
        if not all(_has_one_row(value) for value in values):
            raise next(without_values(name, array.shape) for name, array in arrays.items())
        return write([value[:0] for value in values])

    return MadeUpCall(rows, outputs, 1 if model.joinable else None, kind_of(rows, outputs), cut)


def _has_one_row(value: Any) -> bool:
    return len(value) == 1 if isinstance(value, list) else bool(value.ndim) and len(value) == 1
