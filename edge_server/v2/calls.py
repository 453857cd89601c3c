"""Makes the model's call of an inference, and describes a model in the protocol's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from edge_server.errors import BadRequest
from edge_server.models.running.call import ModelCall, kind_of
from edge_server.models.running.no_rows import call_without_rows, check_empty_axes
from edge_server.v2 import answer, datatypes
from edge_server.v2.classification import largest
from edge_server.v2.head import Head, Wanted
from edge_server.v2.inference import Inference

if TYPE_CHECKING:
    from edge_server.config.values import ModelPlace
    from edge_server.models.bodies.tensors import Array
    from edge_server.models.files.manifest import InputSpec, OutputSpec
    from edge_server.models.running.onnx_model import OnnxModel


_MOST_PLANS = 64
_Key = tuple[str | None, tuple[Wanted, ...] | None, bool]
# Outputs, their names, and whether only the largest values of one are wanted.
_Plan = tuple[tuple[Wanted, ...], tuple[str, ...], bool]
_PLANS: WeakKeyDictionary[OnnxModel, dict[_Key, _Plan]] = WeakKeyDictionary()


def call(model: OnnxModel, place: ModelPlace, inference: Inference) -> ModelCall:
    """The call of ``model`` for an inference; ``place`` names it in the answer.

    Raises BadRequest for tensors that the model does not take, and for outputs and methods that it does not have.
    """
    wanted, names, ranked = _plan(model, inference.head)
    arrays = model.checked(_widened(model, inference.tensors))
    lengths = {array.shape[0] if array.ndim else None for array in arrays.values()}

    def write(values: list[Any]) -> Any:
        if ranked:
            pairs = zip(wanted, values, strict=True)
            values = [largest(v, one, model.classes.get(one.name, ())) if one.top else v for one, v in pairs]
        return answer.write(place.name, str(place.version), inference.head.id, wanted, values)

    # The batcher knows whether the model answers row by row at all.
    rows = lengths.pop() if len(lengths) == 1 else None
    if not rows:
        if rows == 0:
            return call_without_rows(model, arrays, names, write)
        check_empty_axes(model, arrays)
    return ModelCall(arrays, names, rows, kind_of(arrays, names), write)


def _plan(model: OnnxModel, head: Head) -> _Plan:
    """The requested outputs of ``model``; cached, since clients request the same again."""
    plans = _PLANS.get(model)
    if plans is None:
        plans = _PLANS[model] = {}
    key = (head.method, head.outputs, head.binary)
    plan = plans.get(key)
    if plan is None:
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        wanted = _wanted(model, head)
        names = tuple(output.name for output in wanted)
        plan = plans[key] = (wanted, names, any(output.top for output in wanted))
    return plan


def _widened(model: OnnxModel, tensors: dict[str, Array]) -> dict[str, Array]:
    """The tensors in the dtypes that the model takes: a wider one of the same kind holds all values of the client's.
    Unknown inputs are left to the model's own checks; unused ones may be of any kind.
    """
    for spec in model.inputs:
        array = tensors.get(spec.name)
        if array is None or spec.unused or datatypes.fits(array, spec.dtype):
            continue
        given, wanted = str(datatypes.of(array.dtype)), datatypes.DATATYPES[spec.dtype]
        if not datatypes.widens(given, wanted):
            raise BadRequest(f"input {spec.name!r} is {given}, the model takes {wanted}")
        tensors = {**tensors, spec.name: array.astype(spec.dtype)}
    return tensors


def _wanted(model: OnnxModel, head: Head) -> tuple[Wanted, ...]:
    outputs = {output.name: output.dtype for output in model.outputs}
    if head.method is not None:
        if head.method not in model.methods:
            known = ", ".join(map(repr, model.methods)) or "none"
            raise BadRequest(f"unknown method {head.method!r:.80}; the model has {known}")
        outputs = {name: outputs[name] for name in model.methods[head.method]}
    if head.outputs is None:
        # Sequences and maps of a graph without manifest are left out: V2 has tensors only.
        wanted = tuple(Wanted(name, head.binary) for name, dtype in outputs.items() if dtype is not None)
        if not wanted:
            raise BadRequest("the model has no tensors among its outputs; use /score")
    else:
        wanted = head.outputs
    for output in wanted:
        if output.name not in outputs:
            raise BadRequest(f"unknown output {output.name!r:.80}; there are {', '.join(map(repr, outputs))}")
        dtype = outputs[output.name]
        if dtype is None:
            raise BadRequest(f"the output {output.name!r} is a sequence or a map, which V2 does not have; use /score")
        if dtype == "float16" and not output.binary and not output.top:
            raise BadRequest(f"the output {output.name!r} is FP16, which can only be sent as binary data")
    return wanted


def describe(model: OnnxModel, name: str, versions: Sequence[int]) -> dict[str, Any]:
    """The protocol's "Model Metadata Response JSON Object"."""
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor(spec.name, spec.dtype, spec.shape) for spec in model.inputs],
        "outputs": [_tensor(spec.name, spec.dtype, spec.shape) for spec in model.outputs if spec.dtype is not None],
    }


def configuration(model: OnnxModel, name: str, versions: Sequence[int]) -> dict[str, Any]:
    """The model's configuration, in the form of Triton's "Model Configuration Extension".

    ``max_batch_size`` is 0: the first axis is one of the shape's, and any number of rows may come.
    """
    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": list(versions)}},
        "max_batch_size": 0,
        "input": [
            {**_port(spec), "optional": True} if spec.optional or spec.unused else _port(spec) for spec in model.inputs
        ],
        "output": [_port(spec) for spec in model.outputs if spec.dtype is not None],
        "default_model_filename": model.path.name,
    }


def _port(spec: InputSpec | OutputSpec) -> dict[str, Any]:
    described = _tensor(spec.name, str(spec.dtype), spec.shape)
    datatype = described["datatype"]
    kind = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
    return {"name": spec.name, "data_type": kind, "dims": described["shape"]}


def _tensor(name: str, dtype: str, shape: tuple[int | None, ...] | None) -> dict[str, Any]:
    # An unknown shape is shown as one free axis: every tensor that can be batched has one.
    lengths = [-1 if length is None else length for length in ((None,) if shape is None else shape)]
    return {"name": name, "datatype": datatypes.DATATYPES[dtype], "shape": lengths}
