"""Convert a registered model to ONNX: once, proven equal, and kept as layers."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import converters
from converters import Options
from converters.conversion import software
from converters.sandbox.launch import Limits
from edgepack.errors import ConversionError, UsageError
from edgepack.host.files import BY_UMASK, atomic_write, make_dirs
from edgepack.host.scratch import scratch_folder
from edgepack.oci.layer import LayerEntry
from edgepack.oci.store import Store
from packager.layers.paths import model_dir
from packager.layers.secrets import check_written
from packager.models.files import describe_files, write_model_layers
from packager.models.model import Conversion, Framework, Model, Sample, onnx_path
from packager.models.samples import keep_sample, write_sample
from packager.models.served import ServedModel
from packager.models.unpack import extract

if TYPE_CHECKING:
    from packager.models.registry import ModelRegistry

_log = logging.getLogger(__name__)
_FORMAT = 3
DEFAULT_LIMITS = Limits()


def served(
    models: ModelRegistry, model: Model, cache: Path, *, refusals: Path | None = None, offline: bool = False
) -> ServedModel:
    """``model`` as an image serves it, converted first where that is needed and was not done yet; see ``convert``.

    An ONNX model is served as it is, or as its conversion once it was converted.

    Raises ``UsageError`` for a framework that has no no-code way, and ``ConversionError``.
    """
    if model.framework is Framework.CUSTOM:
        raise UsageError(
            "has no framework, and a no-code image needs one",
            where=f"model {model.id}",
            hint="register it with --framework ScikitLearn or as an .onnx file",
        )
    if is_unchecked(model):
        file = onnx_path([file.path for file in model.files], f"model {model.id}")
        return ServedModel(model.name, model.version, file, model.layers)
    conversion = convert(models, model, cache=cache, refusals=refusals, offline=offline)
    return ServedModel(model.name, model.version, conversion.file, conversion.layers)


def is_unchecked(model: Model) -> bool:
    """Whether an image serves ``model`` as it was registered, because it was never converted."""
    return model.framework is Framework.ONNX and model.conversion is None


def convert(
    models: ModelRegistry,
    model: Model,
    options: Options | None = None,
    *,
    cache: Path,
    refusals: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    again: bool = False,
    offline: bool = False,
) -> Conversion:
    """The conversion of ``model``: what the registry remembers, unless its inputs changed or ``again`` is set.

    ``options`` is how; None for how it was done the last time, at first with the sample that the model was registered
    with. ``limits`` bound its time and its memory; ``cache`` is the folder of conversions that workspaces share. Raises
    what ``converters.convert`` raises; the report of a refusal is kept in the folder ``refusals``, if one is given.
    """
    known = model.conversion
    if options is None and known is not None:
        how, sample = Options.from_json({**Options().to_json(), **known.options}), known.sample
    else:
        how, sample = options or Options(), model.sample
    if how.sample is not None:
        sample = keep_sample(how.sample, models.store, "--sample")
    how = replace(how, sample=None)
    key = _key(model, how, sample)
    if known is not None and known.key == key and not again and _complete(models.store, known):
        return known
    _log.info("converting %s from %s to ONNX", model.id, model.framework)
    with scratch_folder("convert") as folder:
        try:
            found = converters.convert(
                extract(models.store, model, folder / "model"),
                framework=model.framework.value,
                output_dir=folder / "onnx",
                options=how if sample is None else replace(how, sample=write_sample(sample, models.store, folder)),
                timeout=limits.seconds,
                memory=limits.memory,
                cache=cache,
                again=again,
                offline=offline,
            )
        except ConversionError as error:
            error.report = _kept(error.report, model, refusals)
            raise
        paths = [path for path in (found.model, found.manifest, found.golden) if path is not None]
        entries = [LayerEntry.of_file(path.name, path) for path in paths]
        files = describe_files(entries, found.model)
        layers = write_model_layers(entries, files, model_dir(model.name, model.version), models.store, model.id)
        said = found.report.read_bytes()
        check_written(said, f"the report on {model.id}", "a model")
        report = models.store.put_bytes(said, "application/json")
    conversion = Conversion(key, layers, report, found.model.name, how.to_json(), sample)
    models.save_conversion(model, conversion)
    return conversion


def _kept(report: Path | None, model: Model, refusals: Path | None) -> Path | None:
    """Where the report of a refused conversion is, after it was copied there; None where it is not kept."""
    if report is None or refusals is None:
        return None
    make_dirs(refusals)
    place = refusals / f"{model.name}-{model.version}.json"
    atomic_write(place, report.read_bytes(), BY_UMASK)
    return place


def _key(model: Model, options: Options, sample: Sample | None) -> str:
    """A hash over what decides the result: the model, the options, and the software that converts."""
    parts = [
        str(_FORMAT),
        software(),
        model.framework.value,
        json.dumps(options.to_json(), sort_keys=True),
        "" if sample is None else str(sample.blob.digest),
        *(f"{file.path}={file.sha256}" for file in model.files),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _complete(store: Store, conversion: Conversion) -> bool:
    return all(store.can_give(blob) for blob in (*(layer.descriptor for layer in conversion.layers), conversion.report))
