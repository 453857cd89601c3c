"""A Keras file as an original, exported to a SavedModel for the converter. Runs inside the sandbox only."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.error_text import first_line
from converters.options import Options
from converters.source.kinds import KERAS_ENDING, KERAS_HDF5_ENDINGS, keras_ending
from converters.tensorflow.original import DEFAULT_SIGNATURE, RE_EXPORT, Original, reason, spec_of
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

UNSAFE = "convert it with --allow-unsafe if you trust it, which still runs it in the sandbox only, or"
# Keras 3 reads no .keras file of Keras 2, and not every .h5 file; TensorFlow's own form is for both.
KERAS_2 = "export it where it was made, with tf.saved_model.save(model, folder), and convert that folder"


def read(path: Path, options: Options, scratch: Path) -> Original:
    """The model of a ``.keras`` file (of ``.h5`` too, if unsafe files are allowed); exported into ``scratch``.

    Raises ``ConversionError`` for a file that is broken, unsafe, of another version, or cannot be exported.
    """
    trained_with = _check_file(path, options)
    import keras
    import tensorflow as tf

    try:
        with _by_its_ending(path) as named:
            model = keras.models.load_model(named, compile=False, safe_mode=not options.allow_unsafe)
    except Exception as error:  # Keras raises whatever a layer's constructor does
        raise _unreadable_keras(error, trained_with, keras.__version__) from error
    if not getattr(model, "inputs", None):
        raise ConversionError("the Keras model does not say what its inputs are", hint=RE_EXPORT)
    inner = getattr(model, "_functional", None) or model
    inputs = tuple(spec_of(name, tensor) for name, tensor in zip(_unique(model.inputs), model.inputs, strict=True))
    names = _output_names(model, inner, [spec.name for spec in inputs])
    outputs = tuple(spec_of(*pair, answered=True) for pair in zip(names, model.outputs, strict=True))
    structure = getattr(inner, "_inputs_struct", model.inputs[0] if len(model.inputs) == 1 else model.inputs)

    def call(feeds: Mapping[str, Any]) -> Any:
        tensors = [tf.constant(feeds[spec.name], dtype=spec.dtype) for spec in inputs]
        answer = model(keras.tree.pack_sequence_as(structure, tensors), training=False)
        return dict(zip(names, keras.tree.flatten(answer), strict=True))

    signature = {f"input_{number}": spec for number, spec in enumerate(inputs)}

    def exported(*given: Any) -> Any:
        answer = model(keras.tree.pack_sequence_as(structure, list(given)), training=False)
        return {f"output_{number}": value for number, value in enumerate(keras.tree.flatten(answer))}

    try:
        archive = keras.export.ExportArchive()
        archive.track(model)
        specs = [tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in signature.items()]
        with _plain_time_distribution():
            archive.add_endpoint(DEFAULT_SIGNATURE, exported, input_signature=specs)
            archive.write_out(scratch, verbose=False)
    except Exception as error:  # as above, while the layers are traced
        raise ConversionError(
            f"Keras cannot export the model ({reason(error)})",
            hint=f"replace the layer that it names, or {SCRIPT}",
        ) from error
    renamed = {spec.name: key for key, spec in signature.items()}
    renamed |= {spec.name: f"output_{number}" for number, spec in enumerate(outputs)}
    return Original(call, inputs, outputs, scratch, DEFAULT_SIGNATURE, renamed, trained_with)


def _output_names(model: Any, inner: Any, taken: list[str]) -> list[str]:
    """The keys of dictionaries that the model answers with, else the names of its layers; each once, none ``taken``."""
    import keras

    layers = [str(name) for name in getattr(inner, "output_names", ())]
    structure = getattr(inner, "_outputs_struct", None)
    if isinstance(structure, dict):
        wanted = ["_".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(structure)]
    else:
        wanted = layers or [f"output_{number}" for number in range(len(model.outputs))]
    names: list[str] = []
    for name in wanted:
        free = name
        number = 0
        while free in taken or free in names:  # a layer with several outputs, such as LSTM(return_state=True)
            number += 1
            free = f"{name}_{number}"
        names.append(free)
    return names


@contextmanager
def _plain_time_distribution() -> Iterator[None]:
    """Let TimeDistributed with a free time axis take rows and steps as one axis, not by a loop that ONNX lacks.

    Only while the graph is made: the comparison is with Keras's own way.
    """
    from keras import layers, ops

    original = layers.TimeDistributed.call

    def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if inputs.shape[1] is not None or mask is not None:
            return original(self, inputs, training=training, mask=mask)
        named = {"training": training} if self.layer._call_has_training_arg else {}
        answer = self.layer.call(ops.reshape(inputs, (-1, *inputs.shape[2:])), **named)
        return ops.reshape(answer, (-1, ops.shape(inputs)[1], *answer.shape[1:]))

    layers.TimeDistributed.call = call
    try:
        yield
    finally:
        layers.TimeDistributed.call = original


@contextmanager
def _by_its_ending(path: Path) -> Iterator[Path]:
    """The file by a name with the ending of its format, in small letters: Keras tells its formats apart by these."""
    ending = keras_ending(path)
    if path.suffix == ending:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="keras-") as folder:
        named = Path(folder, f"model{ending}")
        named.symlink_to(path.resolve())
        yield named


def _check_file(path: Path, options: Options) -> dict[str, str]:
    """Refuse a file that could run code; return the versions that it names. Nothing is loaded for that."""
    ending = keras_ending(path)
    if ending in KERAS_HDF5_ENDINGS:
        trained_with = _hdf5_versions(path)
        if not options.allow_unsafe:
            other = KERAS_2 if _is_old(trained_with) else "save it as .keras"
            raise ConversionError(
                "a Keras .h5 file is unsafe: it can run code when it is loaded", hint=f"{UNSAFE} {other}"
            )
        return trained_with
    if ending != KERAS_ENDING:
        raise ConversionError(
            "the file is not a Keras .keras file or a SavedModel folder",
            hint="save it with model.save('name.keras'), or export a SavedModel with model.export(folder)",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            metadata, config = (json.loads(archive.read(name)) for name in ("metadata.json", "config.json"))
        trained_with = {"keras": str(metadata["keras_version"])}
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        raise ConversionError(
            f"the file is not a whole Keras file ({first_line(error)})", hint="save or copy it again"
        ) from error
    if not options.allow_unsafe and _has_lambda(config):
        raise ConversionError(
            "the model has a Lambda layer, which holds code and is unsafe",
            hint="replace it by a layer such as Rescaling, or convert it with --allow-unsafe if you trust it",
        )
    return trained_with


def _hdf5_versions(path: Path) -> dict[str, str]:
    """The version of Keras that an HDF5 file says it was saved by."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            version = file.attrs.get("keras_version")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConversionError(
            f"the file is not a whole Keras file ({first_line(error)})", hint="save or copy it again"
        ) from error
    text = version.decode("ascii", "replace") if isinstance(version, bytes) else version
    return {} if text is None else {"keras": str(text)}


def _is_old(trained_with: Mapping[str, str]) -> bool:
    """Whether a file is of Keras 2 or older."""
    return trained_with.get("keras", "3").partition(".")[0] in ("1", "2")


def _has_lambda(config: Any) -> bool:
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if part.get("class_name") in ("Lambda", "__lambda__"):
                return True
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return False


def _unreadable_keras(error: Exception, trained_with: Mapping[str, str], here: str) -> ConversionError:
    saved = trained_with.get("keras", "an unknown version")
    if "Could not locate class" in str(error) or "Unknown layer" in str(error):
        return ConversionError(
            f"the model needs a class of its training script ({reason(error)})",
            hint=RE_EXPORT,
        )
    return ConversionError(
        f"Keras {here} cannot read this file, saved by Keras {saved} ({reason(error)})",
        hint=KERAS_2 if _is_old(trained_with) else RE_EXPORT,
    )


def _unique(tensors: Any) -> list[str]:
    """Names of inputs without the suffixes of graphs; numbered where two are the same."""
    names: list[str] = []
    for tensor in tensors:
        name = str(tensor.name).split(":")[0]
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names
