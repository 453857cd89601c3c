"""Carries a layer plan out: makes the layers that the store lacks, and the manifest over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from edgepack.host.progress import Progress, unseen
from edgepack.oci import mediatypes
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from packager.bases.find import Base
from packager.images.plan import FilesLayer, LayerPlan, PlannedLayer, ReadyLayer
from packager.images.steps import ExecutedSteps
from packager.layers.compiler import Compiler, this_compiler
from packager.layers.compressors import write_best_layer
from packager.layers.kept import kept_layer
from packager.layers.secrets import SecretSearch
from packager.wheels.groups import WheelGroup
from packager.wheels.layers import WheelLayers
from packager.wheels.settings import LayerSettings
from packager.wheels.trim import TrimRule, holding

_T = TypeVar("_T")
_FOREIGN_TYPES = {
    mediatypes.DOCKER_LAYER: mediatypes.LAYER,
    mediatypes.DOCKER_LAYER_GZIP: mediatypes.LAYER_GZIP,
}


@dataclass(frozen=True)
class BuiltLayer:
    """A layer of a built image; ``new`` when its blob was not in the store before."""

    digest: Digest
    kind: str
    title: str
    size: int
    unpacked_size: int
    new: bool


@dataclass(frozen=True)
class BuiltImage:
    """An image for one platform; sizes in bytes, ``size`` of its compressed blobs, ``seconds`` since the one before."""

    platform: Platform
    descriptor: Descriptor
    layers: tuple[BuiltLayer, ...]
    size: int
    unpacked_size: int
    new_bytes: int
    seconds: float


class ImageWriter:
    """Writes images to ``store``; what it holds when the writer is made is not new, and the clock starts then.

    The layers of wheels are remembered below ``notes``. ``search`` knows the credentials that must not get into what
    is not the same for every user. ``compiler`` gives what makes bytecode for a minor version of Python.
    """

    def __init__(
        self,
        store: Store,
        notes: Path,
        rules: Sequence[TrimRule],
        search: SecretSearch,
        compiler: Callable[[str], Compiler | None] = this_compiler,
        progress: Progress = unseen,
    ) -> None:
        self._store = store
        self._notes = notes
        self._rules = tuple(rules)
        self._search = search
        self._compiler = compiler
        self._progress = progress
        self._before = store.digests()
        self._started = time.perf_counter()

    def write(self, plan: LayerPlan, executed: ExecutedSteps | None = None) -> BuiltImage:
        """Make the layers that the plan names and the manifest over them; raises ``EdgepackError`` for a credential.

        The layers of ``executed`` steps are above those of the wheels.
        """
        for planned in plan.layers:
            if isinstance(planned, FilesLayer):
                self._search.check_entries(planned.entries)
        made = self._layers(plan)
        base = _base_layers(plan.base)
        config = self._put(_config(plan, made, executed).to_bytes(), mediatypes.CONFIG, "image configuration")
        layers = _with_steps(plan, made, () if executed is None else executed.layers)
        manifest = Manifest(config, tuple(layer.descriptor for layer in (*base, *layers)), annotations=plan.annotations)
        descriptor = self._put(manifest.to_bytes(), mediatypes.MANIFEST, "image manifest")
        return self._report(plan.platform, descriptor, manifest, (*base, *layers))

    def _layers(self, plan: LayerPlan) -> list[Layer]:
        facts = plan.base.facts
        compiler = self._compiler(facts.python_version)
        rules = holding(self._rules, plan.wheels)
        settings = LayerSettings(facts.python_version, facts.python, rules=rules, compiler=compiler)
        groups = [layer for layer in plan.layers if isinstance(layer, WheelGroup)]
        made = WheelLayers(self._store, self._notes, settings, self._progress).make(groups)
        return [self._layer(planned, made) for planned in plan.layers]

    def _layer(self, planned: PlannedLayer, made: Mapping[WheelGroup, Layer]) -> Layer:
        match planned:
            case WheelGroup():
                return made[planned]
            case FilesLayer("server", title, entries):
                return kept_layer(
                    entries, self._store, self._notes / "layers", kind="server", title=title, progress=self._progress
                )
            case FilesLayer(kind, title, entries):
                return write_best_layer(entries, self._store, kind=kind, title=title, progress=self._progress)
            case ReadyLayer(_, _, layer):
                return layer

    def _put(self, data: bytes, media_type: str, what: str) -> Descriptor:
        self._search.check([data], what)
        return self._store.put_bytes(data, media_type)

    def _report(
        self, platform: Platform, descriptor: Descriptor, manifest: Manifest, layers: Sequence[Layer]
    ) -> BuiltImage:
        shown = tuple(_built(layer, self._before) for layer in layers)
        blobs = {blob.digest: blob.size for blob in (descriptor, *manifest.blobs)}
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        return BuiltImage(
            platform,
            descriptor,
            shown,
            size=sum(blobs.values()),
            unpacked_size=sum(layer.unpacked_size for layer in shown),
            new_bytes=sum(size for digest, size in blobs.items() if digest not in self._before),
            seconds=seconds,
        )


def _base_layers(base: Base) -> tuple[Layer, ...]:
    found = []
    triples = zip(base.manifest.layers, base.config.diff_ids, base.facts.unpacked_sizes, strict=True)
    for descriptor, diff_id, unpacked in triples:
        notes = {mediatypes.LAYER_KIND: "base", mediatypes.LAYER_UNPACKED: str(unpacked)}
        media_type = _FOREIGN_TYPES.get(descriptor.media_type, descriptor.media_type)
        found.append(Layer(replace(descriptor, media_type=media_type).with_annotations(notes), diff_id, unpacked))
    return tuple(found)


def _config(plan: LayerPlan, layers: Sequence[Layer], executed: ExecutedSteps | None) -> ImageConfig:
    base = plan.base.config
    lines = [
        History(f"edgepack: {planned.kind} {planned.title}", _compressor(layer), created=plan.created)
        for planned, layer in zip(plan.layers, layers, strict=True)
    ]
    found = replace(
        base,
        platform=plan.platform,
        env=plan.env,
        entrypoint=plan.entrypoint,
        cmd=(),
        user=plan.user,
        working_dir="/",
        exposed_ports=(f"{plan.port}/tcp",),
        labels=plan.labels,
        stop_signal="SIGTERM",
        created=plan.created,
    )
    if executed is not None:
        found = executed.over(found)
    steps = executed or ExecutedSteps(())
    return replace(
        found,
        diff_ids=(*base.diff_ids, *(layer.diff_id for layer in _with_steps(plan, layers, steps.layers))),
        history=(*_base_history(base), *_with_steps(plan, lines, steps.history)),
    )


def _with_steps(plan: LayerPlan, items: Sequence[_T], steps: Sequence[_T]) -> tuple[_T, ...]:
    """``items``, one for each of the plan's layers, with those of the steps above the wheels, which come first."""
    wheels = sum(isinstance(planned, WheelGroup) for planned in plan.layers)
    return (*items[:wheels], *steps, *items[wheels:])


def _base_history(base: ImageConfig) -> tuple[History, ...]:
    """The base's history, with one line for each of its layers: tools that count them want as many."""
    lines = sum(not line.empty_layer for line in base.history)
    return (*base.history, *(History("base", created=base.created) for _ in range(len(base.diff_ids) - lines)))


def _compressor(layer: Layer) -> str:
    return layer.descriptor.annotations.get(mediatypes.LAYER_COMPRESSOR, "")


def _built(layer: Layer, before: frozenset[Digest]) -> BuiltLayer:
    descriptor = layer.descriptor
    title = descriptor.annotations.get(mediatypes.LAYER_TITLE, "")
    return BuiltLayer(
        descriptor.digest,
        descriptor.kind or "base",
        title,
        descriptor.size,
        layer.unpacked_size,
        descriptor.digest not in before,
    )
