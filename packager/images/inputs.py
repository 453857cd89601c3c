"""The inputs of an image, found again by its provenance and its lock, and planned anew. Nothing is converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepack.errors import EdgepackError, NotFoundError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.attachments import attached
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.layer import LayerEntry
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.tar.stream import TarStream
from packager.bases.facts import check_base
from packager.bases.find import Base, find_base, is_recipe
from packager.images.build import Builder, BuildOptions
from packager.images.describe import LOCK
from packager.images.plan import LayerPlan, service_document
from packager.images.recorded import Recorded
from packager.inference.entry_script import EntryScript, read_entry_script
from packager.inference.service_settings import ServiceSettings
from packager.layers.paths import APP_ROOT
from packager.layers.rules import rules_without
from packager.models.model import onnx_path
from packager.models.served import ServedModel
from packager.registries.access import Access
from packager.wheels.groups import WheelGroup
from packager.wheels.layers import group_wheels
from packager.wheels.locks import parse_lock
from packager.wheels.tags import Target
from packager.wheels.trim import RULES


def planned_again(
    builder: Builder,
    image: Descriptor,
    asked: Recorded,
    offline: bool,
    access: Access,
    source: Path | None,
    folder: Path,
) -> tuple[LayerPlan, BuildOptions]:
    """What was built, planned again; raises ``EdgepackError`` naming an input that is missing or another one by now."""
    if asked.steps:
        raise EdgepackError(
            "an engine executed steps of a Dockerfile, which need not give the same files again", where="extra steps",
            hint="compare it with a new build by: edgepack package diff",
        )  # fmt: skip
    script = None if asked.script is None else _script(builder.store, image, asked.script, source, folder / "code")
    settings = None if asked.settings is None else ServiceSettings(asked.settings)
    options = BuildOptions(
        base=asked.base, offline=offline, script=script, rules=rules_without(RULES, asked.rules_off), access=access,
        extras=asked.extras, settings=settings, description=asked.description,
    )  # fmt: skip
    models = _models(builder, asked)
    if tuple(layer.diff_id for model in models for layer in model.layers) != asked.model_layers:
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


def _models(builder: Builder, asked: Recorded) -> tuple[ServedModel, ...]:
    """The models as the registry has them: as registered, or as they were converted. Nothing is converted now."""
    found = []
    for model in map(builder.models.get, asked.models):
        conversion = model.conversion
        registered = {layer.diff_id for layer in model.layers} <= set(asked.model_layers)
        if asked.script is not None:
            found.append(ServedModel(model.name, model.version, "", model.layers))
        elif conversion is None or registered:
            file = onnx_path([one.path for one in model.files], f"model {model.id}")
            found.append(ServedModel(model.name, model.version, file, model.layers))
        else:
            found.append(ServedModel(model.name, model.version, conversion.file, conversion.layers))
    return tuple(found)


def _wheels(
    builder: Builder, image: Descriptor, base: Base, asked: Recorded, options: BuildOptions
) -> tuple[WheelGroup, ...]:
    locks = attached(builder.store, image.digest, mediatypes.LOCK_ARTIFACT)
    ours = [one for one in locks if one.annotations.get(mediatypes.ATTACHMENT_KIND) == LOCK]
    if not ours:
        return ()
    pins = parse_lock(ours[0].data.decode("utf-8", "replace"), f"lock of {image.digest}")
    target = Target(asked.platform, base.facts.python_version, base.facts.glibc, has_wheelhouse=True)
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
