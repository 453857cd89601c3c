"""A SavedModel folder as an original: one of its signatures. Runs inside the sandbox only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.source.kinds import SAVED_MODEL
from converters.tensorflow.original import DEFAULT_SIGNATURE, RE_EXPORT, Original, reason, spec_of
from edgepack.errors import ConversionError, UsageError
from edgepack.nearness import did_you_mean


def read(path: Path, wanted: str | None) -> Original:
    """The signature ``wanted``, else ``serving_default``, else the only one.

    Raises ``ConversionError`` where TensorFlow cannot read the folder, ``UsageError`` that lists the signatures.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # a broken file, an unknown operator, a missing class: each its own error
        raise _unreadable(error) from error
    name = _signature(tuple(loaded.signatures), wanted)
    function = loaded.signatures[name]
    inputs = tuple(spec_of(key, spec) for key, spec in function.structured_input_signature[1].items())
    outputs = tuple(spec_of(key, spec) for key, spec in function.structured_outputs.items())

    def call(feeds: Mapping[str, Any]) -> Any:
        _keep = loaded  # a signature holds its variables weakly
        return function(**{spec.name: tf.constant(feeds[spec.name], dtype=spec.dtype) for spec in inputs})

    exported = {spec.name: spec.name for spec in (*inputs, *outputs)}
    return Original(call, inputs, outputs, path, name, exported, _saved_with(path))


def _signature(known: tuple[str, ...], wanted: str | None) -> str:
    listed = ", ".join(sorted(known)) or "none"
    if wanted is not None and wanted not in known:
        hint = did_you_mean(wanted, known, f"give one of: {listed}")
        raise UsageError(f"the SavedModel has no signature {wanted!r}", hint=hint)
    if wanted is not None:
        return wanted
    if DEFAULT_SIGNATURE in known:
        return DEFAULT_SIGNATURE
    if len(known) == 1:
        return known[0]
    if not known:
        raise ConversionError(
            "the SavedModel has no signatures, so that nothing says what its inputs are",
            hint="save it with tf.saved_model.save(model, folder, signatures=function), or with model.export(folder)",
        )
    raise UsageError(f"the SavedModel has no signature {DEFAULT_SIGNATURE!r}", hint=f"give one of: {listed}")


def _saved_with(path: Path) -> dict[str, str]:
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / SAVED_MODEL
    if not file.is_file():  # protobuf's text form, which old versions wrote
        return {}
    document = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    return {"tensorflow": str(document.meta_graphs[0].meta_info_def.tensorflow_version)}


def _unreadable(error: Exception) -> ConversionError:
    text = reason(error)
    if "Op type not registered" in str(error):
        operator = str(error).split("'")[1]
        return ConversionError(
            f"the SavedModel uses the operator {operator}, which TensorFlow does not have",
            hint="save the model without it, for instance with TensorFlow's own operators in its place",
        )
    return ConversionError(f"TensorFlow cannot read the SavedModel ({text})", hint=f"copy it again, or {RE_EXPORT}")
