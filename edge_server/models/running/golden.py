"""Golden vectors: at each start the model must give the answers that it gave when it was converted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_server.config.fields import read_document
from edge_server.errors import BadRequest, ConfigurationError, ScoringError
from edge_server.models.files.manifest import Golden
from edge_server.models.running.onnx_model import DoesNotFitError, OnnxModel

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array


@dataclass(frozen=True)
class Vectors:
    """The converter's ``arrays`` by input name, and the ``expected`` values by output name."""

    golden: Golden
    arrays: Mapping[str, Array]
    expected: Mapping[str, Any]


def read_golden(model: OnnxModel) -> Vectors | None:
    """The golden vectors that the model's manifest names, or None.

    Raises ScoringError when the file is not the one that the manifest names, ConfigurationError when it does not fit
    the model.
    """
    golden = None if model.manifest is None else model.manifest.golden
    if golden is None:
        return None
    fields = read_document(golden.path, "file of golden vectors", None)
    digest = "sha256:" + hashlib.sha256(golden.path.read_bytes()).hexdigest()
    if digest != golden.digest:
        raise ScoringError(f"{golden.path} has digest {digest}, the manifest names {golden.digest}; build again")
    inputs = fields.take("inputs", dict, {})
    expected = fields.take("outputs", dict, {})
    for name in expected.keys() - {output.name for output in model.outputs}:
        fields.add_violation(f"outputs.{name}", "is not an output of the model")
    fields.finish()
    try:
        return Vectors(golden, model.named(inputs), expected)
    except BadRequest as error:
        raise _inputs_do_not_fit(golden, error) from None


def check_golden(model: OnnxModel, vectors: Vectors) -> int:
    """Run golden vectors through the model; return how many values agreed.

    Raises ScoringError with the numbers when an output disagrees, ConfigurationError when the model refuses them.
    """
    golden, expected = vectors.golden, vectors.expected
    try:
        values = model.run(vectors.arrays, list(expected))
    except BadRequest as error:
        raise _inputs_do_not_fit(golden, error) from None
    compared = zip(expected.items(), values, strict=True)
    return sum(_compare(golden, name, wanted, value) for (name, wanted), value in compared)


def _inputs_do_not_fit(golden: Golden, error: BadRequest) -> ConfigurationError:
    reason = error.reason if isinstance(error, DoesNotFitError) else error.message
    return ConfigurationError(str(golden.path), [f"inputs do not fit the model: {reason}"])


def _compare(golden: Golden, name: str, expected: Any, value: Any) -> int:
    found = np.asarray(value)
    try:
        # JSON has no NaN: the converter writes it as null, which becomes NaN again here.
        wanted = np.array(expected, dtype=np.float64 if found.dtype.kind == "f" else found.dtype)
    except (ValueError, TypeError, OverflowError):
        problem = f"outputs.{name} is not a full array of {found.dtype}"
        raise ConfigurationError(str(golden.path), [problem]) from None
    if wanted.shape != found.shape:
        raise ScoringError(
            f"{golden.path}: output {name!r} has shape {list(found.shape)}, expected {list(wanted.shape)}; "
            "the model or its runtime is not the one that was checked"
        )
    if found.dtype.kind == "f":
        agrees = np.isclose(found, wanted, rtol=golden.rtol, atol=golden.atol, equal_nan=True)
    else:
        agrees = np.asarray(found == wanted)
    if agrees.all():
        return int(found.size)
    index = np.unravel_index(int(np.argmin(agrees)), agrees.shape)
    shown = f"{int((~agrees).sum())} of {found.size} values"
    if found.dtype.kind == "f":
        shown += f", at most {float(np.nanmax(np.abs(found - wanted))):.6g} apart"
        shown += f" (allowed: rtol {golden.rtol:g}, atol {golden.atol:g})"
    raise ScoringError(
        f"{golden.path}: output {name!r} differs in {shown}; first at {[int(i) for i in index]}: "
        f"{found[index]!s} instead of {wanted[index]!s}; the model or its runtime is not the one that was checked"
    )
