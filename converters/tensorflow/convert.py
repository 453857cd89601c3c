"""TensorFlow and Keras -> ONNX by way of a SavedModel and tf2onnx, proven against the original.

A ``.keras`` file is exported to a SavedModel first: of tf2onnx's ways in, only that one keeps the inputs of a
Normalization layer and the tables of a StringLookup. Runs inside the sandbox only.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.options import Options
from converters.package import manifest
from converters.package.tried import Tried
from converters.proof import assembly, comparison
from converters.proof.exploration import explore
from converters.proof.feeds import random_feeds
from converters.proof.specs import Explored, Reference
from converters.tensorflow import graphs, keras_file, saved_model
from converters.tensorflow.original import RE_EXPORT, Original, RowByRow
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError, UsageError

_log = logging.getLogger(__name__)

RECIPE, PLAIN_RECIPE = "tensorflow-saved-model", "tensorflow-saved-model-plain"
ANY_BATCH_RECIPE = "tensorflow-saved-model-any-batch"
PARTS = ("tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class _Attempt:
    """A recipe: the graph, what it has to match, and whether tf2onnx's optimiser runs."""

    recipe: str
    original: Original
    reference: Reference
    frozen: graphs.Frozen
    optimize: bool


def convert(path: Path, digest: str, options: Options, tried: Tried | None = None) -> manifest.Converted:
    """Convert a SavedModel folder or a Keras file and prove it equal.

    Raises ``ConversionError`` where it cannot be converted or the answers differ, ``UsageError`` for unsuitable
    options.
    """
    quiet()
    tried = tried or Tried()
    with tempfile.TemporaryDirectory(prefix="saved-model-") as scratch:
        original = load(path, options, Path(scratch))
        frozen = graphs.freeze(original)
        attempt, model, proof, explored = _first_proven(_attempts(original, frozen), options, tried)
    warnings = [
        f"saved with {part} {version}, read with {_version(part)}"
        for part, version in original.trained_with.items()
        if version.split(".")[0] != _version(part).split(".")[0]
    ]
    if attempt.recipe == ANY_BATCH_RECIPE:
        warnings.append("the original takes one row at a time; the ONNX model takes any number, compared row by row")
    elif not explored.batched:
        warnings.append(f"to have a model that takes any number of rows, {RE_EXPORT}")
    source = {"framework": "TensorFlow", "version": _version("tensorflow"), "digest": digest, "recipe": attempt.recipe}
    extra = {"signature": original.signature, "trained_with": dict(original.trained_with)}
    return assembly.package(proof, explored, model, source, _versions(), warnings, extra)


def load(path: Path, options: Options, scratch: Path) -> Original:
    """Read a SavedModel folder, or a ``.keras`` or ``.h5`` file, which is exported into ``scratch``.

    Raises ``ConversionError`` for a file that is broken, unsafe or of another version, ``UsageError`` for a signature
    that it does not have.
    """
    if path.is_dir():
        return saved_model.read(path, options.signature)
    if options.signature is not None:
        raise UsageError("a Keras file has no signatures", where=path.name, hint="leave the signature out")
    return keras_file.read(path, options, scratch)


def _attempts(original: Original, frozen: graphs.Frozen) -> list[_Attempt]:
    """What is tried, in this order. tf2onnx's optimiser is wrong at times, for instance on grey pictures."""
    attempts = [
        _Attempt(RECIPE, original, original, frozen, True),
        _Attempt(PLAIN_RECIPE, original, original, frozen, False),
    ]
    ports = (*original.inputs, *original.outputs)
    if any(not spec.shape or spec.shape[0] != 1 for spec in ports):
        return attempts
    # A batch of one, baked in when the SavedModel was made.
    opened = replace(
        original,
        inputs=tuple(replace(spec, shape=(None, *spec.shape[1:])) for spec in original.inputs),
        outputs=tuple(replace(spec, shape=(None, *spec.shape[1:])) for spec in original.outputs),
    )
    return [_Attempt(ANY_BATCH_RECIPE, opened, RowByRow(original), graphs.with_open_batch(frozen), True), *attempts]


def _first_proven(
    attempts: list[_Attempt], options: Options, tried: Tried
) -> tuple[_Attempt, Any, comparison.Proof, Explored]:
    """The first attempt that is equal. Raises what the first of the plain kind was refused for."""
    refusal: ConversionError | None = None
    for attempt in attempts:
        tried.begin(attempt.recipe)
        try:
            hinted = [graphs.hinted(spec, attempt.frozen) for spec in attempt.original.inputs]
            explored = explore(attempt.reference, hinted)
            model = graphs.to_onnx(_measured(attempt, explored), attempt.frozen, attempt.optimize)
            roles = comparison.declared_roles(model)
            proof = comparison.prove_model(attempt.reference, model, explored, options, roles)
        except ConversionError as error:
            tried.failed(error)
            _log.debug("%s: %s", attempt.recipe, error)
            if refusal is None or attempt.recipe == RECIPE:
                refusal = error
            continue
        return attempt, model, proof, explored
    raise refusal or ConversionError("the model cannot be converted", hint=SCRIPT)


def _measured(attempt: _Attempt, explored: Explored) -> Original:
    """The original with the axes that its answers have, where it declares another number, as Keras's counts do."""
    answers = attempt.reference.answer(random_feeds(explored.specs, 2, length=explored.lengths[0]))
    axes = {name: answer.ndim for name, answer in answers.items()}
    outputs = tuple(
        spec if len(spec.shape) == axes[spec.name] else replace(spec, shape=(None,) * axes[spec.name])
        for spec in attempt.original.outputs
    )
    return replace(attempt.original, outputs=outputs)


def _version(part: str) -> str:
    """The installed version; TensorFlow's comes under two names."""
    for name in (part, f"{part}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "0"


def _versions() -> dict[str, str]:
    found = {part: _version(part) for part in PARTS if not part.endswith("-cpu")}
    return {part: version for part, version in found.items() if version != "0"}


def quiet() -> None:
    """Before TensorFlow is imported: only the processor, one thread and one order of additions, no logging."""
    os.environ |= {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
    }
    for name in ("tensorflow", "tf2onnx", "absl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
