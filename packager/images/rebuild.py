"""Builds an image again by its provenance and its lock, in a store of its own, and says where the result differs.

Wheels are laid out, server and code written, and the manifest made anew. Taken as they are: the base, by its digest;
the layers of models, which are compared with those of the registry; and, unless a folder is given, the user's code,
whose files are read from the image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from edgepack import __version__
from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError
from edgepack.host.scratch import scratch_folder
from edgepack.oci import mediatypes
from edgepack.oci.attachments import attached
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.platforms import PlatformImage, platform_images
from edgepack.oci.store import Store
from packager.images.build import Builder, BuildOptions
from packager.images.compare import Difference, first_difference
from packager.images.documents import documents
from packager.images.inputs import planned_again
from packager.images.plan import LayerPlan
from packager.images.provenance import KIND
from packager.images.recorded import Recorded, recorded
from packager.images.write import ImageWriter
from packager.layers.compressors import compressor_name
from packager.layers.secrets import SecretSearch
from packager.registries.access import Access
from packager.sbom.components import library_version


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
        if self.made == self.image:
            return self.difference is None
        return self.same_content and any("compressor" in one for one in self.others)


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
            plan, options = planned_again(builder, described, asked, offline, access, source, folder)
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
            same = Rebuilt(image.platform, described.digest, made.digest, others=others)
            return same if others else _with_documents(builder, described, plan, options, asked, same)
        found = _compared(builder.store, described, scratch, made)
        return replace(found, platform=image.platform, others=others)


def _with_documents(
    builder: Builder, image: Descriptor, plan: LayerPlan, options: BuildOptions, asked: Recorded, same: Rebuilt
) -> Rebuilt:
    """``same``, unless a document that edgepack attached is not what is made again now."""
    for made in builder.documents(plan, image, options, asked.environment):
        kind = made.annotations[mediatypes.ATTACHMENT_KIND]
        for there in attached(builder.store, image.digest, made.artifact_type):
            if there.annotations.get(mediatypes.ATTACHMENT_KIND) == kind and there.data != made.data:
                if (tool := _other_library(there.data)) is not None:
                    return replace(same, others=(tool,))
                what = "is not what is made again, though the image is the same"
                return replace(same, layer=f"the attached {kind}", difference=Difference("", what))
    return same


def _other_library(sbom: bytes) -> str | None:
    """What to say where the SBOM was written by another version of the library."""
    try:
        (tool,) = [
            one["version"]
            for one in json.loads(sbom)["metadata"]["tools"]["components"]
            if one["name"] == "cyclonedx-python-lib"
        ]
    except (ValueError, KeyError, TypeError):
        return None
    here = library_version()
    return None if tool == here else f"cyclonedx-python-lib {tool} wrote its SBOM, and here is {here}"


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
