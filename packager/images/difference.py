"""What differs between two images: layers, files, packages, models, configuration, and the bytes that would move.

Layers that both have are known by their diff IDs and are not read, unless a layer that differs may lie over or under
what they hold: one of a base that is not the builder's own work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.mediatypes import LAYER_TITLE, MODELS
from edgepack.oci.sources import BlobSource
from packager.images.inspect import ImageView
from packager.images.tree import FileFacts, LayerFiles, Package, layer_files, merged, packages_of

Change = Literal["added", "removed", "changed"]
# What the builder makes above a base: each in a folder of its own, so that none lies over another.
_OURS = frozenset({"wheel", "wheels", "server", "code", "config", "model"})


@dataclass(frozen=True)
class Difference:
    """One thing that differs: ``before`` is None where it was added, ``after`` where it was removed."""

    what: Literal["layer", "package", "model", "setting", "file"]
    name: str
    before: str | None
    after: str | None
    size_before: int | None = None
    size_after: int | None = None
    parts: tuple[str, ...] = ()

    @property
    def change(self) -> Change:
        """Whether it was added, removed or changed."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"


@dataclass(frozen=True)
class PlatformDifference:
    """The images of one platform: ``moved_bytes`` of ``total_bytes`` are what a device lacks that has the first."""

    platform: Platform
    first: Digest
    second: Digest
    moved_bytes: int
    total_bytes: int
    layers_kept: int
    layers_read: int
    differences: tuple[Difference, ...]

    def of(self, what: str) -> tuple[Difference, ...]:
        """The differences of one kind, such as ``file``."""
        return tuple(one for one in self.differences if one.what == what)


@dataclass(frozen=True)
class Image:
    """One image, and where its blobs are."""

    source: BlobSource
    view: ImageView

    @property
    def layers(self) -> tuple[tuple[Digest, Descriptor], ...]:
        """The layers with their diff IDs, lowest first."""
        return tuple(zip(self.view.config.diff_ids, self.view.manifest.layers, strict=True))


def difference(first: Image, second: Image) -> PlatformDifference:
    """What differs between two images of one platform; raises what their sources raise for a layer that is read."""
    has = {blob.digest for blob in (first.view.descriptor, *first.view.manifest.blobs)}
    blobs = {blob.digest: blob.size for blob in (second.view.descriptor, *second.view.manifest.blobs)}
    shared = frozenset(first.view.config.diff_ids) & frozenset(second.view.config.diff_ids)
    known: dict[Digest, LayerFiles] = {}

    def read(image: Image, wanted: Callable[[Digest, Descriptor], bool]) -> LayerFiles:
        return merged(
            known[diff_id] if diff_id in known else known.setdefault(diff_id, layer_files(image.source, layer))
            for diff_id, layer in image.layers
            if wanted(diff_id, layer)
        )

    def differs(diff_id: Digest, layer: Descriptor) -> bool:
        return diff_id not in shared

    trees = [read(image, differs) for image in (first, second)]
    if not _stand_alone((first, second), shared, known):
        trees = [read(image, lambda *_: True) for image in (first, second)]
    return PlatformDifference(
        second.view.platform,
        first.view.descriptor.digest,
        second.view.descriptor.digest,
        moved_bytes=sum(size for digest, size in blobs.items() if digest not in has),
        total_bytes=sum(blobs.values()),
        layers_kept=len([diff_id for diff_id in second.view.config.diff_ids if diff_id in shared]),
        layers_read=len(known),
        differences=(
            *_layers(first.layers, second.layers, shared),
            *_packages(*(packages_of(tree.texts) for tree in trees)),
            *_models(first, second),
            *_settings(first.view, second.view),
            *_files(*(tree.files for tree in trees)),
        ),
    )


def _stand_alone(images: Sequence[Image], shared: frozenset[Digest], known: Mapping[Digest, LayerFiles]) -> bool:
    """Whether the layers that differ tell by themselves what differs, without those that both images have."""
    orders = [[diff_id for diff_id, _ in image.layers if diff_id in shared] for image in images]
    if orders[0] != orders[1]:
        return False
    if any(files.hides for files in known.values()):
        return False
    # Built upon an image of ours, the builder's folders lie over one another.
    if any(_times_built(image.view) > 1 for image in images):
        return False
    changed = {_kind(layer) for image in images for diff_id, layer in image.layers if diff_id not in shared}
    kept = {_kind(layer) for image in images for diff_id, layer in image.layers if diff_id in shared}
    return changed <= _OURS or ("base" not in kept and kept <= _OURS)


def _kind(layer: Descriptor) -> str:
    return layer.kind or "base"


def _times_built(view: ImageView) -> int:
    return sum(line.created_by.startswith("edgepack: config") for line in view.config.history)


def _layers(
    first: Sequence[tuple[Digest, Descriptor]], second: Sequence[tuple[Digest, Descriptor]], shared: frozenset[Digest]
) -> Iterator[Difference]:
    gone = [item for item in first if item[0] not in shared]
    for diff_id, layer in second:
        if diff_id in shared:
            continue
        # Of the layers that went, the one that it replaces: of the same wheel or model, else of the same kind.
        like = [item for item in gone if _subject(item[1]) == _subject(layer)]
        before = like[0] if like else None
        if before is not None:
            gone.remove(before)
        yield Difference(
            "layer",
            _subject(layer),
            None if before is None else before[1].digest.short,
            layer.digest.short,
            None if before is None else before[1].size,
            layer.size,
        )
    for _, layer in gone:
        yield Difference("layer", _subject(layer), layer.digest.short, None, layer.size, None)


def _subject(layer: Descriptor) -> str:
    """What a layer is about, whatever its version: ``wheel numpy``, ``model churn``, ``base``."""
    title = layer.annotations.get(LAYER_TITLE, "")
    if _kind(layer) == "wheel":
        return f"wheel {title.partition(' ')[0]}"
    return f"model {title.partition(':')[0]}" if _kind(layer) == "model" else _kind(layer)


def _packages(first: frozenset[Package], second: frozenset[Package]) -> Iterator[Difference]:
    versions = [_versions(found) for found in (first - second, second - first)]
    for name in sorted({*versions[0], *versions[1]}):
        before, after = (found.get(name) for found in versions)
        yield Difference("package", f"{name[1]} ({name[0]})", before, after)


def _versions(packages: Iterable[Package]) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for package in sorted(packages):
        name = (package.kind, package.name)
        found[name] = f"{found[name]}, {package.version}" if name in found else package.version
    return found


def _models(first: Image, second: Image) -> Iterator[Difference]:
    models = [_models_of(image) for image in (first, second)]
    for name in sorted({*models[0], *models[1]}):
        before, after = (found.get(name) for found in models)
        if before != after:
            parts = ("content",) if before and after and before[0] == after[0] else ()
            yield Difference("model", name, before and before[0], after and after[0], parts=parts)


def _models_of(image: Image) -> dict[str, tuple[str, tuple[Digest, ...]]]:
    """The version of each model, and the layers that hold it."""
    found = {}
    for model in filter(None, image.view.config.labels.get(MODELS, "").split(",")):
        name, _, version = model.partition(":")
        own = tuple(
            diff_id
            for diff_id, layer in image.layers
            if layer.kind == "model" and layer.annotations.get(LAYER_TITLE) == model
        )
        found[name] = (version, own)
    return found


def _settings(first: ImageView, second: ImageView) -> Iterator[Difference]:
    one, other = first.config, second.config
    yield from _of_map("env ", one.env, other.env)
    yield from _of_map("label ", one.labels, other.labels)
    for name, before, after in (
        ("entrypoint", " ".join(one.entrypoint), " ".join(other.entrypoint)),
        ("cmd", " ".join(one.cmd), " ".join(other.cmd)),
        ("user", one.user, other.user),
        ("working folder", one.working_dir, other.working_dir),
        ("ports", ", ".join(one.exposed_ports), ", ".join(other.exposed_ports)),
        ("stop signal", one.stop_signal, other.stop_signal),
    ):
        if before != after:
            yield Difference("setting", name, before or None, after or None)


def _of_map(prefix: str, first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*first, *second}):
        if first.get(name) != second.get(name):
            yield Difference("setting", f"{prefix}{name}", first.get(name), second.get(name))


def _files(first: Mapping[str, FileFacts], second: Mapping[str, FileFacts]) -> Iterator[Difference]:
    for path in sorted({*first, *second}):
        before, after = first.get(path), second.get(path)
        if before == after:
            continue
        yield Difference(
            "file",
            path,
            None if before is None else _shown(before),
            None if after is None else _shown(after),
            None if before is None else before.size,
            None if after is None else after.size,
            () if before is None or after is None else _changed_parts(before, after),
        )


def _shown(facts: FileFacts) -> str:
    return f"-> {facts.content}" if facts.kind == "symlink" else f"{facts.mode:04o}"


def _changed_parts(before: FileFacts, after: FileFacts) -> tuple[str, ...]:
    pairs = {
        "kind": (before.kind, after.kind),
        "content": (before.content, after.content),
        "mode": (before.mode, after.mode),
        "owner": (before.owner, after.owner),
    }
    return tuple(name for name, (one, other) in pairs.items() if one != other)
