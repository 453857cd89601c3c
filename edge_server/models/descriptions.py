"""Descriptions of models without code, from their inputs, outputs and methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from edge_server.config.sizes import SIZES
from edge_server.errors import ScoringError
from edge_server.models import schemas
from edge_server.models.files.manifest import InputSpec, OutputSpec, Rejects
from edge_server.service import Description, TensorInfo

if TYPE_CHECKING:
    from edge_server.config.values import ModelPlace
    from edge_server.models.catalog import Catalog
    from edge_server.models.files.manifest import Manifest
    from edge_server.models.running.onnx_model import OnnxModel

# A larger example makes no description any better.
_EXAMPLE_BYTES = SIZES.example
# A document of a thousand models would be too long; each is described at /v2/models/NAME.
_MODELS_TOLD = 100
_UNKNOWN = Description({"type": "object"}, {})


class Descriptions:
    """Describes the models of a catalog, and caches the descriptions; thread-safe.

    ``private`` examples are made up: those of golden vectors may be personal data, and descriptions are readable
    without a key.
    """

    def __init__(self, catalog: Catalog[Any], *, private: bool) -> None:
        self._catalog = catalog
        self._private = private
        # By `name:version`, and whether the loaded model was used.
        self._known: dict[str, tuple[Description, bool]] = {}
        self._loaded: frozenset[str] = frozenset()
        self._whole: Description | None = None

    def describe(self) -> Description:
        """The only model's description, or that of several; the same object until something changes.

        A model that is not in memory is described by its manifest; without one, it takes anything.
        """
        loaded = {one.place.id: one.model for one in self._catalog.all_loaded()}
        if self._whole is None or not loaded.keys() <= self._loaded:
            self._loaded |= loaded.keys()
            highest = {place.name: place for place in sorted(self._catalog.places, key=lambda place: place.version)}
            models = {
                name: self._one(place, loaded.get(place.id)) if number < _MODELS_TOLD else _UNKNOWN
                for number, (name, place) in enumerate(sorted(highest.items()))
            }
            first = next(iter(models.values()))
            self._whole = (
                first
                if len(models) == 1
                else Description(first.input_schema, first.output_schema, formats=first.formats, models=models)
            )
        return self._whole

    def _one(self, place: ModelPlace, model: OnnxModel | None) -> Description:
        known, asked = self._known.get(place.id, (None, False))
        if model is not None and not asked:
            known, asked = describe(model, private=self._private), True
        elif known is None:
            known = _unloaded(place, private=self._private)
        self._known[place.id] = known, asked
        return known


def describe(model: OnnxModel, *, private: bool = False) -> Description:
    """Describe a loaded model; ``private`` as in Descriptions."""
    example: Any = _made_up(model.inputs) if private else model.example()
    return _description(
        model.inputs,
        model.outputs,
        model.methods,
        model.default_method,
        Rejects() if model.manifest is None else model.manifest.rejects,
        model.formats,
        example,
        None if private else model.example_answer,
    )


def _unloaded(place: ModelPlace, *, private: bool) -> Description:
    from edge_server.models.loading import check_manifest

    try:
        manifest = check_manifest(place.path)
    except ScoringError:
        manifest = None  # its first request will report it
    if manifest is None:
        return _UNKNOWN
    example = _made_up(manifest.inputs) if private else _example(manifest)
    return _description(
        manifest.inputs,
        manifest.outputs,
        manifest.methods,
        manifest.default_method,
        manifest.rejects,
        (),
        example,
        None,
    )


def _example(manifest: Manifest) -> Any:
    from edge_server.models.bodies.example import example_body
    from edge_server.models.bodies.frames import Columns

    return example_body(manifest.inputs, manifest, Columns.of(manifest.inputs))


def _made_up(inputs: Sequence[InputSpec]) -> Any:
    from edge_server.models.bodies.example import example_body
    from edge_server.models.bodies.frames import Columns

    return example_body(inputs, None, Columns.of(inputs))


def _description(
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    methods: Mapping[str, Sequence[str]],
    default: str | None,
    rejects: Rejects,
    formats: Sequence[str],
    example: Any,
    answer: Any,
) -> Description:
    names = () if default is None else (default, *(name for name in methods if name != default))
    binary = {"type": "string", "format": "binary"}
    return Description(
        _with_example(schemas.body(inputs, rejects, names), example),
        _with_example(schemas.answer(outputs, methods, default), answer),
        formats=dict.fromkeys(formats, binary),
        methods=names,
        inputs=tuple(
            TensorInfo(spec.name, spec.dtype, spec.shape, spec.columns or (), _note(spec, rejects)) for spec in inputs
        ),
        outputs=tuple(
            TensorInfo(spec.name, spec.dtype or "sequence or map", spec.shape, note=_answered(spec)) for spec in outputs
        ),
    )


def _with_example(schema: schemas.Schema, example: Any) -> schemas.Schema:
    if example is None or len(orjson.dumps(example)) > _EXAMPLE_BYTES:
        return schema
    return {**schema, "example": example}


def _answered(spec: OutputSpec) -> str:
    notes = [] if spec.role in ("values", spec.name) else [spec.role]
    if spec.classes:
        notes.append(f"classes {schemas.listed(spec.classes)}")
    return ", ".join(notes)


def _note(spec: InputSpec, rejects: Rejects) -> str:
    notes = []
    if spec.unused:
        notes.append("may be given, and changes nothing")
    if spec.optional:
        notes.append("may be left out")
    if schemas.takes_missing(spec, rejects):
        names = spec.columns or ()
        complete = [names[position] if position < len(names) else str(position) for position in spec.complete]
        notes.append(f"null where missing{f', but for {schemas.listed(complete)}' if complete else ''}")
    if spec.only is not None:
        notes.append(f"one of {schemas.listed(sorted(map(str, spec.only)))}")
    elif spec.categories is not None:
        notes.append(f"such as {schemas.listed(spec.categories)}")
    if spec.minimum is not None or spec.maximum is not None:
        lowest = "" if spec.minimum is None else f"from {spec.minimum} "
        highest = "" if spec.maximum is None else f"to {spec.maximum}"
        notes.append((lowest + highest).strip())
    return "; ".join(notes)
