"""Builds an image again by its provenance and its lock, in a store of its own, and says where the result differs.

Wheels are laid out, server and code written, and the manifest made anew. Taken as they are: the base, by its digest;
the layers of models, which are compared with those of the registry; and, unless a folder is given, the user's code,
whose files are read from the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack import __version__
from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError
from edgepack.host.scratch import scratch_folder
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.attachments import attached
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry
from edgepack.oci.manifest import Manifest
from edgepack.oci.platforms import PlatformImage, platform_images
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.tar.stream import TarStream
from packager.bases.facts import check_base
from packager.bases.find import Base, find_base, is_recipe
from packager.images.build import Builder, BuildOptions
from packager.images.compare import Difference, first_difference
from packager.images.describe import LOCK
from packager.images.documents import documents
from packager.images.plan import LayerPlan, service_document
from packager.images.provenance import KIND
from packager.images.recorded import Recorded, recorded
from packager.images.write import ImageWriter
from packager.inference.entry_script import EntryScript, read_entry_script
from packager.inference.service_settings import ServiceSettings
from packager.layers.compressors import compressor_name
from packager.layers.paths import APP_ROOT
from packager.layers.rules import rules_without
from packager.layers.secrets import SecretSearch
from packager.registries.access import Access
from packager.wheels.groups import WheelGroup
from packager.wheels.layers import group_wheels
from packager.wheels.locks import parse_lock
from packager.wheels.tags import Target
from packager.wheels.trim import RULES


@dataclass(frozen=True)
class Rebuilt:
    """An image and what was built again for its platform; ``None`` where an input is ``missing``.

    ``others`` are tools of another version than those that built it. ``layer`` is the first that differs, by its
    number, kind and title. Where only the compressor differs, the plain layers are ``same_content``.
    """

    platform: Platform
    image: Digest
    made: Digest | None
    missing: str = ""
    others: tuple[str, ...] = ()
    layer: str = ""
    difference: Difference | None = None
    same_content: bool = False

    @property
    def is_same(self) -> bool:
        """Whether the same came out; by its content, where another compressor wrote it."""
        return self.made == self.image or (self.same_content and any("compressor" in one for one in self.others))


def rebuild(
    builder: Builder,
    root: Descriptor,
    *,
    where: str,
    offline: bool = False,
    access: Access | None = None,
    source_directory: Path | None = None,
) -> tuple[Rebuilt, ...]:
    """Build each image of ``root``, called ``where``, again; with a ``source_directory`` of that code.

    Raises ``NotFoundError`` for an image without provenance, ``InvalidDocumentError`` for one that cannot be read.
    """
    found = []
    statements = {
        document.image.digest: document.value
        for document in documents(builder.store, root, KIND, where)
        if document.is_ours
    }
    for image in platform_images(builder.store, root):
        if image.descriptor.digest not in statements:
            raise NotFoundError(
                f"has no provenance of edgepack's for {image.platform}", where=where, hint="build it again"
            )
        asked = recorded(statements[image.descriptor.digest], f"provenance of {image.descriptor.digest}")
        found.append(_rebuilt(builder, image, asked, offline, access or Access(), source_directory))
    return tuple(found)


def _rebuilt(
    builder: Builder, image: PlatformImage, asked: Recorded, offline: bool, access: Access, source: Path | None
) -> Rebuilt:
    described = image.descriptor
    tools = {"edgepack": __version__, "compressor": compressor_name()}
    others = tuple(
        f"{name} {asked.tools[name]} built it, and here is {text}"
        for name, text in tools.items()
        if asked.tools.get(name, text) != text
    )
    with scratch_folder("rebuild") as folder:
        try:
            plan, options = _plan(builder, described, asked, offline, access, source, folder)
        except InvalidDocumentError:
            raise
        except EdgepackError as error:
            return Rebuilt(image.platform, described.digest, None, missing=str(error), others=others)
        scratch = Store.create(folder / "store")
        # Nothing that was made before is taken: the notes on layers are in the folder too.
        writer = ImageWriter(
            scratch, folder / "notes", options.rules, SecretSearch(()), lambda python: builder.compiler(python, options)
        )
        made = writer.write(plan).descriptor
        if made.digest == described.digest:
            return Rebuilt(image.platform, described.digest, made.digest, others=others)
        found = _compared(builder.store, described, scratch, made)
        return replace(found, platform=image.platform, others=others)


def _compared(store: Store, image: Descriptor, scratch: Store, made: Descriptor) -> Rebuilt:
    """Where an image and another differ first: a layer by its plain tar, else the configuration or the manifest."""
    there, anew = store.manifest(image), scratch.manifest(made)
    config, other = (
        ImageConfig.from_bytes(one.read(manifest.config)) for one, manifest in ((store, there), (scratch, anew))
    )
    result = Rebuilt(config.platform, image.digest, made.digest)
    for number in range(max(len(config.diff_ids), len(other.diff_ids))):
        name = _layer_name(there if number < len(there.layers) else anew, number)
        if number >= len(config.diff_ids) or number >= len(other.diff_ids):
            what = "is missing in the image" if number >= len(config.diff_ids) else "was not built again"
            return replace(result, layer=name, difference=Difference("", what))
        if config.diff_ids[number] != other.diff_ids[number]:
            if not scratch.has(anew.layers[number]):  # of the registry: never written here
                changed = Difference("", f"is {config.diff_ids[number]}, and the registry has {other.diff_ids[number]}")
                return replace(result, layer=name, difference=changed)
            found = first_difference(store, there.layers[number], scratch, anew.layers[number])
            return replace(result, layer=name, difference=found or Difference("", "its tar is written otherwise"))
    if replace(config, history=()) != replace(other, history=()):
        return replace(result, layer="image configuration", difference=Difference(_field(config, other), "differs"))
    is_same = dict(there.annotations) == dict(anew.annotations)
    return replace(
        result, layer="image manifest", same_content=is_same,
        difference=Difference("", "its layers are compressed otherwise" if is_same else "its annotations differ"),
    )  # fmt: skip


def _layer_name(manifest: Manifest, number: int) -> str:
    layer = manifest.layers[number]
    title = layer.annotations.get(mediatypes.LAYER_TITLE, "")
    return " ".join(part for part in (f"layer {number + 1}", layer.kind or "", title) if part)


def _field(config: ImageConfig, other: ImageConfig) -> str:
    names = ("env", "entrypoint", "cmd", "user", "working_dir", "exposed_ports", "labels", "stop_signal", "created")
    return next((name for name in names if getattr(config, name) != getattr(other, name)), "other fields")


def _plan(
    builder: Builder,
    image: Descriptor,
    asked: Recorded,
    offline: bool,
    access: Access,
    source: Path | None,
    folder: Path,
) -> tuple[LayerPlan, BuildOptions]:
    """What was built, planned again; raises ``EdgepackError`` naming an input that is missing or another one by now."""
    script = None if asked.script is None else _script(builder.store, image, asked.script, source, folder / "code")
    settings = None if asked.settings is None else ServiceSettings(asked.settings)
    options = BuildOptions(
        base=asked.base, offline=offline, script=script, rules=rules_without(RULES, asked.rules_off), access=access,
        extras=asked.extras, settings=settings, description=asked.description,
    )  # fmt: skip
    models = builder.served_models(asked.models, options)
    held = tuple(layer.diff_id for model in models for layer in model.layers)
    if held != asked.model_layers:
        names = ", ".join(str(ref) for ref in asked.models)
        raise EdgepackError(
            "what the registry has by this name is not what was built in", where=f"model {names}",
            hint="the model was deleted and registered again, or converted anew",
        )  # fmt: skip
    if settings is not None:
        settings.check(service_document(models, script))
    base = _base(builder, asked, offline, access)
    wheels = _wheels(builder, image, base, asked, options)
    variables = dict(one.partition("=")[::2] for one in asked.variables)
    return builder.assembled(models, asked.platform, base, wheels, options, variables), options


def _wheels(
    builder: Builder, image: Descriptor, base: Base, asked: Recorded, options: BuildOptions
) -> tuple[WheelGroup, ...]:
    locks = attached(builder.store, image.digest, mediatypes.LOCK_ARTIFACT)
    ours = [one for one in locks if one.annotations.get(mediatypes.ATTACHMENT_KIND) == LOCK]
    if not ours:
        return ()
    pins = parse_lock(ours[0].data.decode("utf-8", "replace"), f"lock of {image.digest}")
    target = Target(asked.platform, base.facts.python_version, base.facts.glibc)
    found = builder.wheels.get(pins, target, offline=options.offline)
    # What a rule leaves out as a whole is not in the lock.
    return group_wheels(found, options.rules, [wheel.name for wheel in found])


def _base(builder: Builder, asked: Recorded, offline: bool, access: Access) -> Base:
    """The base by its digest: from a recipe, from the workspace, or from where its reference leads."""
    if asked.base is not None and is_recipe(asked.base):
        base = find_base(asked.base, asked.platform, builder.store, builder.bases, offline=offline, access=access)
        if base.descriptor.digest != asked.base_digest:
            raise EdgepackError(
                f"is {base.descriptor.digest} by now, and the image is on {asked.base_digest}",
                where=f"base {asked.base}",
                hint="use the edgepack that built it",
            )
        return base
    try:
        descriptor = builder.store.describe(asked.base_digest)
    except NotFoundError:
        if asked.base is None:
            raise NotFoundError(
                "is not in the workspace, and had no name for others", where=f"base {asked.base_digest}",
                hint="load it: edgepack package load FILE",
            ) from None  # fmt: skip
        name = f"{asked.base.partition('@')[0].removeprefix('docker://')}@{asked.base_digest}"
        found = find_base(
            f"docker://{name}", asked.platform, builder.store, builder.bases, offline=offline, access=access
        )
        return replace(found, name=asked.base)
    manifest = builder.store.manifest(descriptor)
    config = ImageConfig.from_bytes(builder.store.read(manifest.config))
    facts = check_base(builder.bases.facts(builder.store, descriptor, manifest), asked.platform, str(asked.base_digest))
    return Base(asked.base or f"oci:{asked.base_digest}", descriptor, manifest, config, facts)


def _script(
    store: Store, image: Descriptor, script: Mapping[str, Any], source: Path | None, folder: Path
) -> EntryScript:
    file, below = str(script.get("file")), str(script.get("folder")).lstrip("/")
    if source is not None and below == APP_ROOT:  # the script alone was shipped
        return read_entry_script(str(source / file), None)
    if source is not None:
        found = read_entry_script(file, source)
        # A copy of the folder may be called otherwise; its name is part of the image.
        moved = (replace(entry, path=f"{below}{entry.path.removeprefix(found.folder)}") for entry in found.entries)
        return replace(found, folder=below, entries=tuple(moved))
    manifest = store.manifest(image)
    entries: list[LayerEntry] = []
    for layer in manifest.layers:
        if layer.kind == "code":
            entries += _unpacked(store, layer, folder)
    return EntryScript(file, below, tuple(entries))


def _unpacked(store: Store, layer: Descriptor, folder: Path) -> Sequence[LayerEntry]:
    """The entries of a layer of code; their contents in files that are called by their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    with store.open(layer) as stream:
        tar = TarStream(decompressed(stream, layer, LIMITS.layer_unpacked_bytes), as_engines=True)
        for number, member in enumerate(tar):
            path = member.name.strip("/")
            if member.kind == "file":
                place = folder / f"{layer.digest.hex[:12]}-{number}"
                with place.open("wb") as file:
                    for chunk in tar.chunks():
                        file.write(chunk)
                entry = LayerEntry.of_file(path, place)
                found.append(replace(entry, mode=member.mode & 0o7777))
            elif member.kind != "special":
                found.append(LayerEntry(path, member.kind, member.mode & 0o7777, linkname=member.linkname))
    return found
