"""What to tell the client of a run of a converted model that failed: the row and the input that are to blame.

Such a graph fails where a step inside of the original refuses what it is given, and the engine's own words name only
operators that the converter wrote.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_server.errors import BadRequest
from edge_server.models.bodies.faults import location, some
from edge_server.models.running.call import MadeUpCall
from edge_server.models.running.onnx_model import DoesNotFitError

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array
    from edge_server.models.running.call import ModelCall
    from edge_server.models.running.onnx_model import OnnxModel

# With more inputs, the one to blame is not looked for.
_MOST_INPUTS = 100

_log = logging.getLogger(__name__)


def explained(model: OnnxModel, call: ModelCall, error: DoesNotFitError, options: Any) -> BadRequest:
    """The refusal of a call that failed alone, found by further runs of parts of it: about as much work as the call's
    own, and a run of one row for each input. The engine's own words go to the log. Those of a graph without manifest,
    which is the user's own, are for the client too.
    """
    if model.manifest is None:
        return error
    _log.info("the engine cannot compute a request", extra={"model": str(model.path), "reason": error.reason})
    arrays = call.arrays
    given = ", ".join(f"{name!r:.80} of shape {list(array.shape)}" for name, array in arrays.items())
    if isinstance(call, MadeUpCall):
        return BadRequest("the request has no rows, and the model cannot be run on that")
    if any(not array.size for array in arrays.values()):
        return BadRequest(f"the model cannot be run without values: {given}")
    if not model.joinable or call.rows is None:
        return BadRequest(f"the original model refuses a value among these, or what a step makes of it: {given}")
    row = _first_row(model, arrays, call.outputs, options)
    names = _inputs(model, {name: array[row : row + 1] for name, array in arrays.items()}, call.outputs, options)
    if len(names) != 1:
        return BadRequest(
            f"row {row} has values that the original model refuses, or what one of its steps makes of them"
        )
    spec = next(spec for spec in model.inputs if spec.name == names[0])
    values = arrays[names[0]][row].ravel().tolist()
    refused = (
        f"is {some(values)}: the original model refuses that"
        if len(values) == 1
        else "has values that the original model refuses"
    )
    return BadRequest(f"{location(spec, (row,))} {refused}, or what one of its steps makes of it")


def _first_row(model: OnnxModel, arrays: Mapping[str, Array], outputs: Sequence[str], options: Any) -> int:
    """The first row with which the run fails, by halving; 0 where none fails alone."""
    first, end = 0, min(map(len, arrays.values()))
    while end - first > 1:
        middle = (first + end) // 2
        if _runs(model, {name: array[first:middle] for name, array in arrays.items()}, outputs, options):
            first = middle
        else:
            end = middle
    return first


def _inputs(model: OnnxModel, row: Mapping[str, Array], outputs: Sequence[str], options: Any) -> list[str]:
    """The inputs of a row of which any can be exchanged for one that the model takes, so that the run does not fail."""
    if len(row) == 1:
        return list(row)
    if len(row) > _MOST_INPUTS:
        return []
    found = []
    for name, array in row.items():
        known = model.sample.get(name)
        if known is not None and known.shape == array.shape and _runs(model, {**row, name: known}, outputs, options):
            found.append(name)
    return found


def _runs(model: OnnxModel, arrays: Mapping[str, Array], outputs: Sequence[str], options: Any) -> bool:
    try:
        model.run(arrays, outputs, options)
    except DoesNotFitError:
        return False
    return True
