"""Base images: from a recipe of ours, a registry, an OCI layout, an archive or an engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgepack.errors import IncompatibleError
from edgepack.oci.config import ImageConfig
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.graph import images
from edgepack.oci.manifest import Manifest
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.bases.cache import BaseCache
from packager.bases.debian import recipes
from packager.bases.facts import CheckedFacts, check_base
from packager.images.inspect import platform_of
from packager.places.table import find_source, public_name

DEFAULT_RECIPE = "debian12-python3.11"


@dataclass(frozen=True)
class Base:
    """A base image for one platform, whose blobs are in the store of the workspace."""

    name: str
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig
    facts: CheckedFacts

    @property
    def reference(self) -> str | None:
        """Its name for others; ``None`` for a place of this machine, which must not leave it."""
        return public_name(self.name)


def is_recipe(name: str | None) -> bool:
    """Whether the base called ``name`` is built from one of edgepack's recipes, of which one is the default."""
    return name is None or name in recipes()


def find_base(name: str | None, platform: Platform, store: Store, bases: BaseCache, *, offline: bool = False) -> Base:
    """The base called ``name`` (our recipe when ``None``) for ``platform``, copied to ``store``.

    Raises ``NotFoundError``, ``IncompatibleError`` for a wrong architecture or a base without Python or glibc, and
    what its place raises.
    """
    if name is None or is_recipe(name):
        name = name or DEFAULT_RECIPE
        descriptor = bases.build(name, platform, offline=offline)
        copy(bases.store, store, descriptor)
    else:
        with find_source(name, store).open(offline=offline) as (source, root):
            descriptor = _for_platform(images(source, root), source, platform, name)
            copy(source, store, descriptor)
    manifest = store.manifest(descriptor)
    config = ImageConfig.from_bytes(store.read(manifest.config), f"base {name}")
    config.check_layers(manifest.layers, f"base {name}")
    facts = check_base(bases.facts(store, descriptor, manifest), platform, name)
    return Base(name, replace(descriptor, annotations={}, platform=None), manifest, config, facts)


def _for_platform(
    found: tuple[tuple[Descriptor, Manifest], ...], source: BlobSource, platform: Platform, name: str
) -> Descriptor:
    """The image for exactly ``platform``, of an index that need not say its images' platforms.

    Not by the rules of ``graph.platform_manifest``: a base for another variant does not fit, as the wheels above it are
    chosen for this one.
    """
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
