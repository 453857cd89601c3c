"""A signature as a graph of TensorFlow's without variables, and that as an ONNX model. Runs inside the sandbox only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from converters.graph import edits
from converters.graph.canonical import canonical
from converters.proof.specs import Spec
from converters.tensorflow import text
from converters.tensorflow.original import Original, reason
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError
from edgepack.limits import LIMITS

OPSET = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 8  # the one of opset 18
# Where text is cut and joined, which ONNX can since opset 20, of which tf2onnx does not know yet.
TEXT_OPSET, TEXT_IR_VERSION = 20, 9
# More of a vocabulary would only make the rows more alike.
HINTS = 200
ONE_BIN = (
    "use a StringLookup with one bin for unknown words (num_oov_indices=1), for whole numbers an IntegerLookup, or "
    "hash the text before the model"
)
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
COMPILED = ("_XlaMustCompile", "_noinline")  # attributes that keep TensorFlow from writing a function out
RESIZE = "resize with interpolation='bilinear' or 'nearest' and antialias=False, or before the model"
RESIZES = {"ResizeBicubic": "bicubic", "ResizeArea": "area"}  # whose form here is another than TensorFlow's
DENSE = "save the model with sparse=False in the layer that makes counts or hot columns"
WAYS_OUT = {
    "DenseCountSparseOutput": DENSE,
    "RaggedCountSparseOutput": DENSE,
    "SparseToDense": DENSE,
    "SparseTensorDenseMatMul": DENSE,
    "SparseCross": "combine the columns before the model, and look the combination up in a StringLookup",
    "ScaleAndTranslate": RESIZE,
    "Bitcast": "use tf.argmax in the place of keras.ops.argmax",
    "StringToHashBucketFast": ONE_BIN,
    "StringToHashBucketStrong": ONE_BIN,
    "RegexReplace": text.PREPARE,
    "StringUpper": text.PREPARE,
    "StringStrip": text.PREPARE,
}


@dataclass(frozen=True)
class Frozen:
    """A signature as a graph without variables: its tensors' names, and its tables' keys and values."""

    definition: Any
    inputs: list[str]
    outputs: list[str]
    tables: Mapping[bytes, tuple[Any, Any]]
    names: Mapping[str, str]


def freeze(original: Original) -> Frozen:
    """The original's signature without variables. Raises ``ConversionError`` where TensorFlow cannot make it so."""
    from tf2onnx import tf_loader

    try:
        definition, inputs, outputs, tables, names = tf_loader.from_saved_model(
            str(original.folder),
            None,
            None,
            tag="serve",
            signatures=[original.signature],
            return_initialized_tables=True,
            return_tensors_to_rename=True,
        )
        definition = _inlined(definition, inputs, outputs)
    except Exception as error:  # tf2onnx lets TensorFlow's errors through, and has a few of its own
        raise _no_way(error) from error
    return Frozen(definition, inputs, outputs, tables, names)


def _inlined(definition: Any, inputs: list[str], outputs: list[str]) -> Any:
    """The graph without calls of functions; TensorFlow leaves those that XLA is to compile, as Keras's convolutions."""
    import tensorflow as tf
    from tf2onnx import tf_loader

    if not any(node.op in CALLS for node in definition.node):
        return definition
    changed = type(definition).FromString(definition.SerializeToString())
    for entry in (*changed.node, *changed.library.function):
        for name in COMPILED:
            entry.attr.pop(name, None)
    for function in changed.library.function:
        for node in function.node_def:
            for name in COMPILED:
                node.attr.pop(name, None)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(changed, name="")
        return tf_loader.tf_optimize(inputs, outputs, graph.as_graph_def())


def to_onnx(original: Original, frozen: Frozen, optimize: bool) -> Any:
    """The stripped and checked ONNX model, with the inputs and outputs named and shaped as the original's.

    ``optimize`` runs tf2onnx's own optimiser. Raises ``ConversionError`` where an operator has no ONNX form.
    """
    import tensorflow as tf
    from onnx import helper
    from tf2onnx import optimizer, tfonnx

    from converters.tensorflow.handlers import handlers

    for node in frozen.definition.node:
        if node.op in RESIZES:
            raise ConversionError(
                f"the model resizes pictures by {RESIZES[node.op]} interpolation, which has no exact ONNX form",
                hint=RESIZE,
            )
    with_text = any(map(text.is_text, frozen.definition.node))
    try:
        with tf.Graph().as_default() as body:
            tf.import_graph_def(frozen.definition, name="")
            made = tfonnx.process_tf_graph(
                body,
                continue_on_error=False,
                opset=OPSET[""],
                extra_opset=[helper.make_opsetid(domain, version) for domain, version in OPSET.items() if domain],
                custom_op_handlers=handlers(frozen.tables, frozen.definition),
                input_names=frozen.inputs,
                output_names=frozen.outputs,
                tensors_to_rename=frozen.names,
                initialized_tables=frozen.tables,
            )
            made = optimizer.optimize_graph(made) if optimize else made
            model = made.make_model("model")
    except ConversionError:
        raise
    except Exception as error:  # handlers fail in every way, and each one means the same here
        raise _no_way(error) from error
    if model.ByteSize() >= LIMITS.protobuf_bytes:
        raise ConversionError(
            "with its weights the model is larger than the 2 GiB that one ONNX file can hold",
            hint="make it smaller, for instance by float16",
        )
    _require_operators(model)
    edits.strip(model)
    model.ir_version = IR_VERSION
    if with_text:
        _raise_opset(model)
    _without_made_up_axes(model.graph)
    _name(model, original)
    canonical(model)
    edits.check(model)
    return model


def _raise_opset(model: Any) -> None:
    """Declare the operators on text. Those of opset 18 mean the same in 20, as the comparison shows of each model."""
    from onnx import helper

    model.ir_version = TEXT_IR_VERSION
    others = [entry for entry in model.opset_import if entry.domain not in ("", text.RUNTIME_DOMAIN)]
    versions = [helper.make_opsetid("", TEXT_OPSET), helper.make_opsetid(text.RUNTIME_DOMAIN, 1), *others]
    del model.opset_import[:]
    model.opset_import.extend(versions)


def _without_made_up_axes(graph: Any) -> None:
    """Take the names that tf2onnx numbers (``unk__7``) off the axes of the bodies of loops."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                for port in (*inner.input, *inner.output):
                    for axis in port.type.tensor_type.shape.dim:
                        axis.ClearField("dim_param")
                _without_made_up_axes(inner)


def _require_operators(model: Any) -> None:
    """tf2onnx keeps what it cannot convert as it is, and calls that success."""
    import onnx

    for operator in sorted({(node.domain, node.op_type) for node in model.graph.node}):
        domain, name = operator
        if domain != text.RUNTIME_DOMAIN and not onnx.defs.has(name, domain):
            raise ConversionError(
                f"the model uses TensorFlow's operator {name}, which has no ONNX form",
                hint=WAYS_OUT.get(name, f"replace it in the model by others, or {SCRIPT}"),
            )


def _name(model: Any, original: Original) -> None:
    """Give inputs and outputs their users' names, axes without a length a plain name, and outputs their shapes."""
    body = model.graph
    wanted = {original.exported[spec.name]: spec for spec in (*original.inputs, *original.outputs)}
    for key in wanted:  # first aside, since a user's name may be another tensor's
        edits.rename(body, key, f"{key}__exported")
    taken = {spec.name for spec in wanted.values()}
    for name in {name for node in body.node for name in (*node.input, *node.output) if name in taken}:
        edits.rename(body, name, f"{name}__inner")
    for value in (*body.input, *body.output):
        spec = wanted.get(value.name)
        if spec is None:
            raise ConversionError(f"the converter adds {value.name!r} to the model's inputs or outputs", hint=SCRIPT)
        edits.rename(body, f"{value.name}__exported", spec.name)
        value.name = spec.name
        value.type.tensor_type.ClearField("shape")
        value.type.tensor_type.shape.SetInParent()  # a scalar has a shape too, of no axes
        for number, length in enumerate(spec.shape):
            axis = value.type.tensor_type.shape.dim.add()
            if length is None:
                axis.dim_param = "batch" if number == 0 else f"{spec.name}_{number}"
            else:
                axis.dim_value = length


def hinted(spec: Spec, frozen: Frozen) -> Spec:
    """The input with the values that tables and boundaries of the graph know of its type."""
    import numpy as np

    if spec.kind == "float":
        return replace(spec, values=_boundaries(frozen.definition))
    keys: list[Any] = []
    for found, _ in frozen.tables.values():
        if spec.kind == "string" and found.dtype == object:
            keys += [key.decode("utf-8", "replace") for key in found.tolist()]
        elif spec.kind == "int" and found.dtype.kind == "i":
            limits = np.iinfo(spec.dtype)
            keys += [key for key in found.tolist() if limits.min <= key <= limits.max]
    known = sorted(set(keys))[:HINTS]
    if spec.kind == "string" and any(node.op in text.OPERATORS for node in frozen.definition.node):
        known += text.sentences(known)
    return replace(spec, values=tuple(known))


def _boundaries(definition: Any) -> tuple[float, ...]:
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    found = {float(limit) for node in nodes if node.op == "Bucketize" for limit in node.attr["boundaries"].list.f}
    return tuple(sorted(found))[:HINTS]


def with_open_batch(frozen: Frozen) -> Frozen:
    """The graph with an open first axis of its inputs; what follows from that TensorFlow finds out again."""
    definition = type(frozen.definition)()
    definition.CopyFrom(frozen.definition)
    names = {name.split(":")[0] for name in frozen.inputs}
    for node in definition.node:
        if "_output_shapes" in node.attr:
            del node.attr["_output_shapes"]
        if node.name in names and node.attr["shape"].shape.dim:
            node.attr["shape"].shape.dim[0].size = -1
    return replace(frozen, definition=definition)


def _no_way(error: Exception) -> ConversionError:
    return ConversionError(f"the model cannot be converted ({reason(error)})", hint=SCRIPT)
