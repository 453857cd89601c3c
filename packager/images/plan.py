"""The layer plan: what an image is made of, most stable first; pure.

Order: base; heavy wheels, one each; the other wheels together; the scoring server; code; configuration; models. What
changes with every model version comes last, so that an update moves only that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepack import __version__
from edgepack.documents import canonical_json
from edgepack.errors import UsageError
from edgepack.names import ModelRef
from edgepack.oci.config import EPOCH
from edgepack.oci.descriptor import Platform
from edgepack.oci.layer import Layer, LayerEntry
from edgepack.oci.mediatypes import MODELS
from packager.layers.paths import APP_ROOT, CONFIG_PATH, PREFIX, SERVER_ROOT, USER, model_dir, site_packages
from packager.models.served import ServedModel
from packager.wheels.groups import WheelGroup

if TYPE_CHECKING:
    from packager.bases.find import Base
    from packager.inference.entry_script import EntryScript
    from packager.inference.service_settings import ServiceSettings
    from packager.wheels.cache import Wheel

# Engines allow 127, and somebody may build on top of this image (docs/architecture.md, "Image").
MAX_LAYERS = 60
PORT = 5001
# What the build itself sets of the variables of an image.
OWN_ENV = frozenset({"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "ORT_DISABLE_TELEMETRY"})


@dataclass(frozen=True)
class FilesLayer:
    """A layer of a few small files."""

    kind: str
    title: str
    entries: tuple[LayerEntry, ...] = field(repr=False)

    @property
    def planned_size(self) -> int:
        """Bytes of what goes in: the files."""
        return sum(entry.size for entry in self.entries)


@dataclass(frozen=True)
class ReadyLayer:
    """A layer that is in the store already."""

    kind: str
    title: str
    layer: Layer

    @property
    def planned_size(self) -> int:
        """Bytes of the layer's blob."""
        return self.layer.descriptor.size


PlannedLayer = WheelGroup | FilesLayer | ReadyLayer


@dataclass(frozen=True)
class LayerPlan:
    """An image for one platform: what comes on top of the base, how it is run, and when its newest input was made.

    ``lock`` has every wheel in it by its hash, as pip reads it.
    ``steps`` are further steps of a Dockerfile, which run once the wheels are there and nothing else is.
    """

    platform: Platform
    base: Base
    layers: tuple[PlannedLayer, ...]
    env: Mapping[str, str]
    entrypoint: tuple[str, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created: str = EPOCH
    user: str = USER
    port: int = PORT
    steps: str = ""
    lock: str = field(default="", repr=False)

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """The wheels in the image."""
        return tuple(wheel for layer in self.layers if isinstance(layer, WheelGroup) for wheel in layer.wheels)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The models in the image, each once."""
        return tuple(dict.fromkeys(ModelRef.parse(layer.title) for layer in self.layers if layer.kind == "model"))


def plan_image(
    platform: Platform,
    base: Base,
    wheels: tuple[WheelGroup, ...],
    server: tuple[LayerEntry, ...],
    models: tuple[ServedModel, ...],
    script: EntryScript | None = None,
    created: str = EPOCH,
    settings: ServiceSettings | None = None,
    *,
    variables: Mapping[str, str] | None = None,
    lock: str = "",
    description: str | None = None,
) -> LayerPlan:
    """Plan an image of models alone or of a script, with an environment's ``variables``.

    Raises ``UsageError`` for more layers than an image should have.
    """
    config = LayerEntry.of_bytes(CONFIG_PATH, service_config(models, script, settings))
    layers: tuple[PlannedLayer, ...] = (
        *wheels,
        FilesLayer("server", f"scoring {__version__}", server),
        *((FilesLayer("code", script.file, script.entries),) if script is not None else ()),
        FilesLayer("config", "service.json", (config,)),
        *(ReadyLayer("model", model.id, layer) for model in models for layer in model.layers),
    )
    count = len(base.manifest.layers) + len(layers)
    if count > MAX_LAYERS:
        raise UsageError(
            f"the image would have {count} layers, more than {MAX_LAYERS}", hint="give a base with fewer layers"
        )
    return LayerPlan(
        platform,
        base,
        layers,
        env={
            **base.config.env,
            **(variables or {}),
            "PYTHONPATH": f"/{SERVER_ROOT}:/{site_packages(base.facts.python_version)}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
        },
        entrypoint=(base.facts.python, "-m", "edge_server", "--config", f"/{CONFIG_PATH}"),
        labels={
            **base.config.labels,
            MODELS: ",".join(model.id for model in models),
            "io.edgepack.python": base.facts.python_version,
        },
        annotations={
            "org.opencontainers.image.base.digest": str(base.descriptor.digest),
            **({"org.opencontainers.image.base.name": base.reference} if base.reference else {}),
            **description_annotation(description),
        },
        created=created,
        lock=lock,
    )


def description_annotation(description: str | None) -> dict[str, str]:
    """The annotation that says what an image is (image-spec, annotations.md); none where nobody says it."""
    return {"org.opencontainers.image.description": description} if description else {}


def service_config(
    models: tuple[ServedModel, ...], script: EntryScript | None = None, settings: ServiceSettings | None = None
) -> bytes:
    """The ``service.json`` of an image, with the user's ``settings`` in it."""
    document = service_document(models, script)
    return canonical_json(document if settings is None else settings.over(document))


def service_document(models: tuple[ServedModel, ...], script: EntryScript | None = None) -> dict[str, Any]:
    """What the build decides; paths are relative to service.json, so that an unpacked image runs from any root."""
    up = "../" * (len(PREFIX.split("/")))
    return {
        "schema": "edgepack.service/v1",
        "models": [
            {
                "name": model.name,
                "version": model.version,
                "path": f"{up}{model_dir(model.name, model.version)}",
                "file": model.file,
            }
            for model in models
        ],
        "entry_script": None if script is None else {"file": script.file, "source_directory": up + script.folder},
        "root": up + APP_ROOT,
        "host": "0.0.0.0",  # noqa: S104 - inside a container; the engine decides what is published
        "port": PORT,
        "limits": {"body_bytes": 100 << 20},
        "logging": {"level": "info"},
    }
