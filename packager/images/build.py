"""Builds images: gathers what a plan needs, plans, and carries the plan out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepack.errors import UsageError
from edgepack.names import ModelRef
from edgepack.oci import mediatypes
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reference import image_tag
from packager.bases.find import Base, find_base, is_recipe
from packager.images.plan import (
    FilesLayer,
    LayerPlan,
    PlannedLayer,
    ReadyLayer,
    ServedModel,
    WheelGroup,
    plan_image,
)
from packager.inference.entry_script import EntryScript, check_entry_script
from packager.inference.server import server_entries
from packager.layers.compressors import write_best_layer
from packager.layers.secrets import SecretSearch, known_secrets
from packager.models.conversion import served
from packager.wheels.layers import WheelLayers
from packager.wheels.settings import LayerSettings
from packager.wheels.stack import modules_of, scoring_wheels
from packager.wheels.tags import Target
from packager.wheels.trim import RULES, TrimRule
from packager.workspace import Workspace

_FOREIGN_TYPES = {
    mediatypes.DOCKER_LAYER: mediatypes.LAYER,
    mediatypes.DOCKER_LAYER_GZIP: mediatypes.LAYER_GZIP,
}


@dataclass(frozen=True)
class BuildOptions:
    """What a user may choose about a build: ``rules`` are what stays out of wheels, ``script`` runs the models."""

    base: str | None = None
    offline: bool = False
    script: EntryScript | None = None
    rules: tuple[TrimRule, ...] = RULES


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
    """An image for one platform; sizes in bytes, ``size`` of its compressed blobs."""

    platform: Platform
    descriptor: Descriptor
    layers: tuple[BuiltLayer, ...]
    size: int
    unpacked_size: int
    new_bytes: int
    seconds: float


@dataclass(frozen=True)
class Build:
    """What ``tag`` now names: one image, or an index of several."""

    tag: str
    descriptor: Descriptor
    images: tuple[BuiltImage, ...]


def gather(
    workspace: Workspace, refs: Sequence[ModelRef], platforms: Sequence[Platform], options: BuildOptions
) -> tuple[LayerPlan, ...]:
    """Bring together what an image needs and plan it, once for each platform.

    Raises ``UsageError``, ``NotFoundError``, ``IncompatibleError``, ``ConversionError`` for what does not fit.
    """
    if len(set(platforms)) != len(platforms) or not platforms:
        raise UsageError(
            "a platform stands twice, or there is none", where="--platform", hint="give each one once, with commas"
        )
    if not refs and options.script is None:
        raise UsageError("an image needs a model or an entry script", hint="give -m or --entry-script")
    for platform in platforms:
        Target(platform)  # raises for a platform that has no wheels, before anything is fetched for another one
    found = [workspace.models.get(ref) for ref in refs]
    if len({model.id for model in found}) != len(found):
        raise UsageError("a model stands twice", where="-m", hint="give each one once")
    if options.script is None:
        models = tuple(served(workspace, model, offline=options.offline) for model in found)
    else:
        models = tuple(ServedModel(model.name, model.version, "", model.layers) for model in found)
    plans = []
    for platform in platforms:
        base = find_base(workspace, options.base, platform, offline=options.offline)
        wheels = scoring_wheels(workspace, base.facts, platform, options.rules, offline=options.offline)
        if options.script is not None:
            # What a base of somebody else's brings besides Python is not known.
            packages = modules_of(wheels) if is_recipe(options.base) else None
            check_entry_script(options.script, base.facts.python_version, packages)
        plans.append(
            plan_image(platform, base, wheels, server_entries(base.facts.python_version), models, options.script)
        )
    return tuple(plans)


def build(
    workspace: Workspace,
    refs: Sequence[ModelRef],
    tag: str,
    platforms: Sequence[Platform],
    options: BuildOptions | None = None,
) -> Build:
    """Build the image of the models ``refs`` for each platform and let ``tag`` name it.

    The same inputs give the same digests. ``tag`` changes at the very end; what was built before stays when it fails.
    """
    tag = image_tag(tag)
    options = options or BuildOptions()
    before = workspace.store.digests()
    search = SecretSearch(known_secrets())
    built, started = [], time.perf_counter()
    for plan in gather(workspace, refs, platforms, options):
        image = execute(workspace, plan, options, before, search)
        built.append(replace(image, seconds=time.perf_counter() - started))
        started = time.perf_counter()
    root = built[0].descriptor
    if len(built) > 1:
        index = Index(tuple(replace(image.descriptor, platform=image.platform) for image in built))
        root = workspace.store.put_bytes(index.to_bytes(), mediatypes.INDEX)
    workspace.store.tag(tag, root)
    return Build(tag, root, tuple(built))


def execute(
    workspace: Workspace, plan: LayerPlan, options: BuildOptions, before: frozenset[Digest], search: SecretSearch
) -> BuiltImage:
    """Make the layers that the plan names and the manifest over them.

    Raises ``EdgepackError`` when ``search`` finds a credential in what is not the same for every user.
    """
    store = workspace.store
    facts = plan.base.facts
    settings = LayerSettings(facts.python_version or "3.11", facts.python or "/usr/bin/python3.11", rules=options.rules)
    for planned in plan.layers:
        if isinstance(planned, FilesLayer):
            search.check_entries(planned.entries)
    wheels = WheelLayers(store, workspace.root / "cache", settings)
    made = wheels.make([layer for layer in plan.layers if isinstance(layer, WheelGroup)])
    layers = [_layer(workspace, planned, made) for planned in plan.layers]
    base = _base_layers(plan.base)

    described = _config(plan, layers).to_bytes()
    search.check([described], "image configuration")
    config = store.put_bytes(described, mediatypes.CONFIG)
    manifest = Manifest(
        config,
        (*(layer.descriptor for layer in base), *(layer.descriptor for layer in layers)),
        annotations=plan.annotations,
    )
    search.check([manifest.to_bytes()], "image manifest")
    descriptor = store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
    shown = tuple(_built(layer, before) for layer in (*base, *layers))
    blobs = {blob.digest: blob.size for blob in (descriptor, *manifest.blobs)}
    return BuiltImage(
        plan.platform,
        descriptor,
        shown,
        size=sum(blobs.values()),
        unpacked_size=sum(layer.unpacked_size for layer in shown),
        new_bytes=sum(size for digest, size in blobs.items() if digest not in before),
        seconds=0.0,
    )


def _layer(workspace: Workspace, planned: PlannedLayer, made: dict[WheelGroup, Layer]) -> Layer:
    match planned:
        case WheelGroup():
            return made[planned]
        case FilesLayer(kind, title, entries):
            return write_best_layer(entries, workspace.store, kind=kind, title=title)
        case ReadyLayer(_, _, layer):
            return layer


def _base_layers(base: Base) -> tuple[Layer, ...]:
    found = []
    triples = zip(base.manifest.layers, base.config.diff_ids, base.facts.unpacked_sizes, strict=True)
    for descriptor, diff_id, unpacked in triples:
        notes = {mediatypes.LAYER_KIND: "base", mediatypes.LAYER_UNPACKED: str(unpacked)}
        media_type = _FOREIGN_TYPES.get(descriptor.media_type, descriptor.media_type)
        found.append(Layer(replace(descriptor, media_type=media_type).with_annotations(notes), diff_id, unpacked))
    return tuple(found)


def _config(plan: LayerPlan, layers: Sequence[Layer]) -> ImageConfig:
    base = plan.base.config
    lines = tuple(
        History(f"edgepack: {planned.kind} {planned.title}", _compressor(layer))
        for planned, layer in zip(plan.layers, layers, strict=True)
    )
    return replace(
        base,
        platform=plan.platform,
        diff_ids=(*base.diff_ids, *(layer.diff_id for layer in layers)),
        env=plan.env,
        entrypoint=plan.entrypoint,
        cmd=(),
        user=plan.user,
        working_dir="/",
        exposed_ports=(f"{plan.port}/tcp",),
        labels=plan.labels,
        stop_signal="SIGTERM",
        history=(*_base_history(base), *lines),
    )


def _base_history(base: ImageConfig) -> tuple[History, ...]:
    """The base's history, with one line for each of its layers: tools that count them want as many."""
    lines = sum(not line.empty_layer for line in base.history)
    return (*base.history, *(History("base") for _ in range(len(base.diff_ids) - lines)))


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
