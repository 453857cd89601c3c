"""Small, deterministic edits of an ONNX graph, and running it. Runs inside the sandbox only."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgepack.errors import ConversionError

PRODUCER = "edgepack"
# https://onnxruntime.ai/docs/reference/compatibility.html: 1.17 takes opset 20, ai.onnx.ml 4 and IR 9.
OLDEST_RUNTIME, OLDEST_RUNTIME_OPSET, OLDEST_RUNTIME_ML, OLDEST_RUNTIME_IR = "1.17", 20, 4, 9
# The oldest that was seen to answer rightly with the exact trees of ai.onnx.ml 5; 1.23 gets sets wrong.
OLDEST_TREES_RUNTIME, OLDEST_TREES_ML, OLDEST_TREES_IR = "1.27", 5, 10

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}

RECURRENT = (b"LSTM", b"GRU")

Shaping = Literal["as it is", "flat", "column", "first column", "second column"]


@dataclass(frozen=True)
class Port:
    """An input or output of a loaded graph; ``shape`` has None for an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Session:
    """An ONNX model in onnxruntime, on one thread, whose inputs and outputs are all plain tensors.

    Raises ``ConversionError`` when the runtime cannot load it.
    """

    def __init__(self, model: bytes | str) -> None:
        self._session = open_session(model)
        self._recurrent = _holds(model, RECURRENT)
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs in order. Raises ``ConversionError`` when the runtime fails on these inputs, or would."""
        if self._recurrent and any(not array.size for array in feeds.values()):
            # onnxruntime 1.32 does not fail on this but ends the process.
            raise ConversionError("onnxruntime cannot run LSTM and GRU on no rows", hint="give at least one row")
        return run(self._session, feeds)


def _holds(model: bytes | str, operators: Sequence[bytes]) -> bool:
    """Whether a serialized graph has one of the operators: a node's field 4, a string (onnx.proto, ``NodeProto``)."""
    marks = [b"\x22" + bytes([len(name)]) + name for name in operators]
    if isinstance(model, bytes):
        return any(mark in model for mark in marks)
    with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(mark) >= 0 for mark in marks)


def open_session(model: bytes | str) -> Any:
    """onnxruntime's own session of a model's bytes or file, on one thread. Raises ``ConversionError``."""
    # Read at import: version 1.32 would otherwise look for a device identifier and try to report.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no base class below this
        raise ConversionError(
            f"onnxruntime {ort.__version__} cannot load the ONNX model ({_runtime_reason(error)})",
            hint="export it with operators and an opset that this runtime has",
        ) from error


def run(session: Any, feeds: Mapping[str, Any]) -> list[Any]:
    """What a session answers, outputs in order. Raises ``ConversionError`` when it fails on these inputs."""
    try:
        return list(session.run(None, dict(feeds)))
    except Exception as error:  # as above
        raise ConversionError(
            f"onnxruntime fails on the ONNX model ({_runtime_reason(error)})",
            hint="export ONNX yourself and register that",
        ) from error


def _runtime_reason(error: BaseException) -> str:
    """What onnxruntime says, without its codes, its source's paths and its functions' signatures."""
    text = " ".join(str(error).split())
    versions = re.search(r"Opset (\d+) is under development.* is till opset (\d+)", text)
    if versions is not None:
        return f"it uses opset {versions[1]}, this runtime takes up to {versions[2]}"
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .* failed: ?", "", text)
    place = re.search(r"(?:Status Message: )?/\S+:\d+ ", text)
    if place is not None:
        text = text[: place.start()] + _after_signature(text[place.end() :])
    return text[:300]


def _after_signature(text: str) -> str:
    """What follows a C++ function's signature."""
    depth, start = 0, text.find("(")
    for index in range(max(start, 0), len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return text[index + 1 :].removeprefix(" const").strip() or text
    return text


def _port(argument: Any) -> Port:
    dtype = DTYPES.get(argument.type)
    if dtype is None:
        raise ConversionError(
            f'"{argument.name}" of the ONNX model is a {argument.type}, not a plain tensor',
            hint="export it with tensors only (for scikit-learn: zipmap=False)",
        )
    shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in argument.shape)
    return Port(argument.name, dtype, shape)


def first_line(error: BaseException) -> str:
    """What an exception says, short enough for a sentence."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())[:300]


def strip(model: Any) -> None:
    """Remove what says where and when a graph was made: documentation strings, stack traces, the producer."""
    model.producer_name, model.producer_version, model.domain = PRODUCER, "", ""
    model.model_version = 0
    _strip_record(model)
    _strip_graph(model.graph)
    for function in model.functions:
        _strip_record(function)
        for value in getattr(function, "value_info", ()):
            _strip_record(value)
        for node in function.node:
            _strip_node(node)


def _strip_record(record: Any) -> None:
    record.doc_string = ""
    if hasattr(record, "metadata_props"):
        del record.metadata_props[:]


def _strip_graph(graph: Any) -> None:
    _strip_record(graph)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        _strip_record(value)
    for node in graph.node:
        _strip_node(node)


def _strip_node(node: Any) -> None:
    _strip_record(node)
    for inner in _subgraphs(node):
        _strip_graph(inner)


def check(model: Any) -> None:
    """Raise ``ConversionError`` unless the model keeps to the ONNX specification."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ConversionError(
            f"the ONNX model is not valid ({first_line(error)})", hint="export it again with a newer exporter"
        ) from error


def serialize(model: Any) -> bytes:
    """The model's bytes, the same for the same model."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def opsets(model: Any) -> dict[str, int]:
    """The operator sets that a model names, by domain, sorted."""
    pairs = {("" if entry.domain == "ai.onnx" else entry.domain): entry.version for entry in model.opset_import}
    return {domain: int(pairs[domain]) for domain in sorted(pairs)}


def minimum_runtime(model: Any) -> str:
    """The least onnxruntime that is known to run the model: 1.17, 1.27, or the one that it was proven with."""
    import onnxruntime as ort

    versions = opsets(model)
    main, ml = versions.get("", 0), versions.get("ai.onnx.ml", 0)
    if main <= OLDEST_RUNTIME_OPSET and ml <= OLDEST_RUNTIME_ML and model.ir_version <= OLDEST_RUNTIME_IR:
        return OLDEST_RUNTIME
    if main <= OLDEST_RUNTIME_OPSET and ml <= OLDEST_TREES_ML and model.ir_version <= OLDEST_TREES_IR:
        return OLDEST_TREES_RUNTIME
    return ".".join(ort.__version__.split(".")[:2])


def keep_outputs(model: Any, wanted: Sequence[tuple[str, str, Shaping]]) -> None:
    """Make ``wanted`` the graph's outputs: tuples of a present output, its new name, and how to shape it."""
    from onnx import ValueInfoProto, helper

    graph = model.graph
    present = {output.name: output for output in graph.output}
    outputs = []
    for source, name, shaping in wanted:
        elem_type = present[source].type.tensor_type.elem_type
        inner = f"{name}__raw"
        rename(graph, source, inner if shaping != "as it is" else name)
        if shaping in ("flat", "column"):
            target = [-1] if shaping == "flat" else [-1, 1]
            axes = helper.make_tensor(f"{name}__shape", 7, [len(target)], target)
            graph.initializer.append(axes)
            graph.node.append(helper.make_node("Reshape", [inner, axes.name], [name], name=f"{name}__flat"))
        elif shaping != "as it is":
            number = 0 if shaping == "first column" else 1
            column = helper.make_tensor(f"{name}__column", 7, [], [number])
            graph.initializer.append(column)
            graph.node.append(helper.make_node("Gather", [inner, column.name], [name], name=f"{name}__gather", axis=1))
        output = ValueInfoProto()
        output.name = name
        output.type.tensor_type.elem_type = elem_type
        outputs.append(output)
    del graph.output[:]
    graph.output.extend(outputs)


def declare_shape(model: Any, name: str, shape: Sequence[int | None]) -> None:
    """Write an output's shape into the graph; None is an axis of any length."""
    (output,) = (output for output in model.graph.output if output.name == name)
    output.type.tensor_type.ClearField("shape")
    for number, length in enumerate(shape):
        axis = output.type.tensor_type.shape.dim.add()
        if length is None:
            axis.dim_param = "batch" if number == 0 else f"{name}_{number}"
        else:
            axis.dim_value = length


def rename(graph: Any, old: str, new: str) -> None:
    """Give a tensor another name wherever nodes read or write it."""
    if old == new:
        return
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
        for inner in _subgraphs(node):
            rename(inner, old, new)


def prune(model: Any) -> None:
    """Remove the nodes and initializers that no output needs."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    used: list[Any] = []
    for node in reversed(graph.node):  # sorted by the specification: who writes stands before who reads
        if needed.intersection(node.output):
            used.append(node)
            needed.update(_reads(node))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(used))
    graph.initializer.extend(weights)


def sort(model: Any) -> None:
    """Put the nodes in the order that the specification demands: who writes before who reads."""
    graph = model.graph
    known = {entry.name for entry in (*graph.input, *graph.initializer)} | {""}
    written = {name for node in graph.node for name in node.output}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if all(name in known or name not in written for name in _reads(node))]
        if not ready:
            raise ConversionError("the ONNX graph reads what it has not written", hint="export it again")
        ordered += ready
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if not known.issuperset(node.output)]
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def take_out_unread(model: Any) -> set[str]:
    """Remove the inputs that no node reads; the names of those that stay."""
    graph = model.graph
    read = {name for node in graph.node for name in _reads(node)} | {output.name for output in graph.output}
    kept = [type(value).FromString(value.SerializeToString()) for value in graph.input if value.name in read]
    del graph.input[:]
    graph.input.extend(kept)
    return {value.name for value in kept}


def _reads(node: Any) -> set[str]:
    """The names that a node reads, also from inside its subgraphs."""
    names = set(node.input)
    for inner in _subgraphs(node):
        names.update(output.name for output in inner.output)
        for child in inner.node:
            names |= _reads(child)
    return names


def _subgraphs(node: Any) -> list[Any]:
    found = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return found + [graph for attribute in node.attribute for graph in attribute.graphs]
