"""Small, deterministic edits of an ONNX graph, and facts read from it. Runs inside the sandbox only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from converters.error_text import first_line
from edgepack.errors import ConversionError

PRODUCER = "edgepack"
# https://onnxruntime.ai/docs/reference/compatibility.html: 1.17 takes opset 20, ai.onnx.ml 4 and IR 9.
OLDEST_RUNTIME, OLDEST_RUNTIME_OPSET, OLDEST_RUNTIME_ML, OLDEST_RUNTIME_IR = "1.17", 20, 4, 9
# The oldest that was seen to answer rightly with the exact trees of ai.onnx.ml 5; 1.23 gets sets wrong.
OLDEST_TREES_RUNTIME, OLDEST_TREES_ML, OLDEST_TREES_IR = "1.27", 5, 10

Shaping = Literal["as it is", "flat", "column", "first column", "second column"]


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
    """Raise ``ConversionError`` unless the model keeps to the ONNX specification.

    Inputs and outputs may lack a shape, and outputs a type, which the checker wants and runtimes do without.
    """
    import onnx

    try:
        with _told(model.graph):
            onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ConversionError(
            f"the ONNX model is not valid ({first_line(error)})", hint="export it again with a newer exporter"
        ) from error


@contextmanager
def _told(graph: Any) -> Iterator[None]:
    """Give every input and output a shape, and every output a type, where they lack one; take them away again after."""
    lacking = [(port.type, inner) for port in (*graph.input, *graph.output) if (inner := _shapeless(port)) is not None]
    before = [(kind, type(kind).FromString(kind.SerializeToString())) for kind, _ in lacking]
    untyped = [port for port in graph.output if not port.HasField("type")]
    for _, inner in lacking:
        inner.shape.SetInParent()
    for port in untyped:
        port.type.tensor_type.elem_type = 1
        port.type.tensor_type.shape.SetInParent()
    try:
        yield
    finally:
        for kind, copy in before:
            kind.CopyFrom(copy)
        for port in untyped:
            port.ClearField("type")


def _shapeless(port: Any) -> Any | None:
    """The tensor's type of an input or output that has a type and no shape, else None."""
    inner = _innermost(port.type) if port.HasField("type") else None
    return None if inner is None or inner.HasField("shape") else inner


def _innermost(kind: Any) -> Any | None:
    """The tensor's type in a ``TypeProto``: of itself, or of what a sequence, map or optional has; None without."""
    wrappers = {"sequence_type": "elem_type", "optional_type": "elem_type", "map_type": "value_type"}
    name = kind.WhichOneof("value")
    if name in wrappers:
        return _innermost(getattr(getattr(kind, name), wrappers[name]))
    return getattr(kind, name) if name in ("tensor_type", "sparse_tensor_type") else None


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
    output.type.tensor_type.shape.SetInParent()  # that of a scalar has no axes, and is there
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
    for node in reversed(graph.node):  # sorted by the specification: a tensor's writer is before its readers
        if needed.intersection(node.output):
            used.append(node)
            needed.update(_reads(node))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(used))
    graph.initializer.extend(weights)


def sort(model: Any) -> None:
    """Put the nodes in the order that the specification demands: a tensor's writer before its readers."""
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
