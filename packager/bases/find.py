"""Base images: from a recipe of ours, a registry, an OCI layout, an archive or an engine."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from platform import python_version

from edgepack.errors import EdgepackError, IncompatibleError, InvalidDocumentError
from edgepack.oci import mediatypes
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.graph import images
from edgepack.oci.manifest import Manifest
from edgepack.oci.sources import BlobSource
from packager.bases.debian import BaseRecipe, base_entries, load_recipe, recipes
from packager.bases.facts import BaseFacts, base_facts, check_base
from packager.images.inspect import platform_of
from packager.layers.compressors import compressor_name, write_best_layer
from packager.places.table import find_source, public_name
from packager.workspace import Workspace

DEFAULT_RECIPE = "debian12-python3.11"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """A base image for one platform, whose blobs are in the workspace's store."""

    name: str
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig
    facts: BaseFacts

    @property
    def reference(self) -> str | None:
        """Its name for others; ``None`` where it came from a place of this machine, which is nobody's business."""
        return public_name(self.name)


def is_recipe(name: str | None) -> bool:
    """Whether the base called ``name`` is built from a recipe of ours, the default among them, and not brought here."""
    return name is None or name in recipes()


def find_base(workspace: Workspace, name: str | None, platform: Platform, *, offline: bool = False) -> Base:
    """The base called ``name`` (our recipe when ``None``) for ``platform``, brought into the workspace's store.

    Raises ``NotFoundError``, ``IncompatibleError`` for a wrong architecture or a base without Python or glibc, and
    what its place raises.
    """
    if name is None or is_recipe(name):
        name = name or DEFAULT_RECIPE
        descriptor = build_recipe(workspace, name, platform, offline=offline)
        copy(workspace.bases, workspace.store, descriptor)
    else:
        with find_source(name, workspace.store).open(offline=offline) as (source, root):
            descriptor = _for_platform(images(source, root), source, platform, name)
            copy(source, workspace.store, descriptor)
    manifest = workspace.store.manifest(descriptor)
    config = ImageConfig.from_bytes(workspace.store.read(manifest.config), f"base {name}")
    if len(config.diff_ids) != len(manifest.layers):
        raise InvalidDocumentError(
            f"base {name}", [f"its configuration names {len(config.diff_ids)} of {len(manifest.layers)} layers"]
        )
    facts = base_facts(workspace.store, descriptor, manifest, workspace.cache)
    check_base(facts, platform, name)
    return Base(name, replace(descriptor, annotations={}, platform=None), manifest, config, facts)


def _for_platform(
    found: tuple[tuple[Descriptor, Manifest], ...], source: BlobSource, platform: Platform, name: str
) -> Descriptor:
    have = []
    for descriptor, manifest in found:
        own = platform_of(source, descriptor, manifest)
        if own == platform:
            return descriptor
        if own.os != "unknown":  # what builders attach to an index beside its images
            have.append(str(own))
    raise IncompatibleError(
        f"is for {', '.join(have) or 'no platform'}, not for {platform}",
        where=f"base {name}",
        hint="give a base for that platform, or leave --base out",
    )


def recipe_tag(recipe: BaseRecipe, platform: Platform) -> str:
    """The tag of a recipe's image in the cache; it changes with the recipe, its lock, and who writes bytecode."""
    key = hashlib.sha256()
    for path in sorted(recipe.folder.iterdir()):
        key.update(path.name.encode() + b"\0" + path.read_bytes())
    key.update(f"{compressor_name()} {python_version()}".encode())
    return f"{recipe.name}:{platform.os}-{platform.architecture}-{key.hexdigest()[:16]}"


def build_recipe(
    workspace: Workspace,
    name: str,
    platform: Platform,
    *,
    offline: bool = False,
    locked: bool = False,
    rebuild: bool = False,
) -> Descriptor:
    """The image of recipe ``name`` in the cache of bases, built where it is not there yet or ``rebuild`` is asked for.

    With ``locked`` the mirror must have the locked versions. Raises what the recipe raises.
    """
    recipe = load_recipe(name)
    recipe.of_platform(platform)
    tag = recipe_tag(recipe, platform)
    if not rebuild and (found := workspace.bases.tags().get(tag)) is not None:
        return replace(found, annotations={})
    if offline:
        raise EdgepackError(
            f"base {name} for {platform} is not built yet",
            where="--offline",
            hint=f"build it while there is a network: edgepack base build {name}",
        )
    log.info("building base %s for %s from Debian's packages, once", name, platform)
    with tempfile.TemporaryDirectory(prefix="edgepack-base-") as folder:
        entries = base_entries(recipe, platform, Path(folder), locked=locked)
        layer = write_best_layer(entries, workspace.bases, kind="base", title=name)
    config = ImageConfig(
        platform,
        (layer.diff_id,),
        env=recipe.env,
        cmd=(recipe.python,),
        labels={"io.edgepack.base": name},
        history=(History(f"edgepack: base {name}"),),
    )
    described = workspace.bases.put_bytes(config.to_bytes(), mediatypes.CONFIG)
    manifest = Manifest(described, (layer.descriptor,))
    descriptor = workspace.bases.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
    workspace.bases.tag(tag, descriptor)
    return descriptor
