"""Base images: from a recipe of ours, a registry, an OCI layout, an archive or an engine."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from edgepack.errors import IncompatibleError, NotFoundError
from edgepack.host.progress import Progress, unseen
from edgepack.oci.available import Available
from edgepack.oci.config import ImageConfig
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.manifest import Manifest
from edgepack.oci.platforms import choose, platform_images, same
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.bases.cache import BaseCache
from packager.bases.debian import load_recipe, recipes
from packager.bases.facts import CheckedFacts, check_base
from packager.places.table import find_source, public_name
from packager.registries.access import Access

DEFAULT_RECIPE = "debian12-python3.11"

_log = logging.getLogger(__name__)


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

    def lacks_module(self, name: str) -> bool:
        """Whether it is known to do without module ``name`` of Python's standard library."""
        return is_recipe(self.name) and load_recipe(self.name).lacks_module(name)


def is_recipe(name: str | None) -> bool:
    """Whether the base called ``name`` is built from one of edgepack's recipes, of which one is the default."""
    return name is None or name in recipes()


def find_base(
    name: str | None,
    platform: Platform,
    store: Store,
    bases: BaseCache,
    *,
    offline: bool = False,
    access: Access | None = None,
    progress: Progress = unseen,
) -> Base:
    """The base called ``name`` (our recipe when ``None``) for ``platform``, copied to ``store``.

    Raises ``NotFoundError``, ``IncompatibleError`` for a wrong architecture or a base without Python or glibc, and
    what its place raises.
    """
    if name is None or is_recipe(name):
        name = name or DEFAULT_RECIPE
        descriptor = bases.build(name, platform, offline=offline, progress=progress)
        copy(bases.store, store, descriptor, progress=progress)
    else:
        with find_source(name, store, access or Access(), recipes=recipes()).open(offline=offline) as (source, root):
            descriptor = _for_platform(source, root, platform, name)
            copy(source, store, descriptor, progress=progress)
    manifest = store.manifest(descriptor)
    config = ImageConfig.from_bytes(store.read(manifest.config), f"base {name}")
    config.check_layers(manifest.layers, f"base {name}")
    found = bases.facts(store, descriptor, manifest)
    facts = check_base(found, platform, name)
    if found.device_refusal is not None:
        _log.warning(
            "base %s: a device without a container engine cannot run images on it, because of %s",
            name, found.device_refusal,
        )  # fmt: skip
    return Base(name, replace(descriptor, annotations={}, platform=None), manifest, config, facts)


def _for_platform(source: BlobSource, root: Descriptor, platform: Platform, name: str) -> Descriptor:
    """The image for exactly ``platform``: the wheels above a base are chosen for one variant."""
    found = platform_images(source, root)
    chosen = choose(found, platform, same)
    if chosen is None:
        have = ", ".join(str(one.platform) for one in found)
        if isinstance(source, Available) and any(one.platform == platform for one in source.absent):
            raise NotFoundError(
                f"names an image for {platform} and does not hold it, only for {have}",
                where=f"base {name}",
                hint=f"pull it with --platform {platform} where it comes from, and save it again",
            )
        raise IncompatibleError(
            f"is for {have or 'no platform'}, not for {platform}",
            where=f"base {name}",
            hint="give a base for that platform, or leave --base out",
        )
    return chosen.descriptor
