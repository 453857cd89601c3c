"""A workspace: one store, one model registry, the keys, and what is cached beside them."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import NotFoundError
from edgepack.host.files import make_dirs
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.store import Store
from edgepack.signing.keys import KeyRing

if TYPE_CHECKING:
    from packager.bases.cache import BaseCache
    from packager.images.build import Builder
    from packager.models.registry import ModelRegistry


def _home(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "edgepack"


def default_root() -> Path:
    """``EDGEPACK_WORKSPACE``, or the user's data folder (XDG base directories)."""
    named = os.environ.get("EDGEPACK_WORKSPACE")
    return Path(named) if named else _home("XDG_DATA_HOME", ".local/share")


def default_cache() -> Path:
    """``EDGEPACK_CACHE``, or the user's cache folder: wheels, bases and conversions, which all workspaces share."""
    named = os.environ.get("EDGEPACK_CACHE")
    return Path(named) if named else _home("XDG_CACHE_HOME", ".cache")


class Workspace:
    """Everything that the workstation keeps below ``root``; ``cache`` may be shared and thrown away."""

    def __init__(self, root: Path | None = None, cache: Path | None = None) -> None:
        self.root = (root or default_root()).absolute()
        self.cache = (cache or default_cache()).absolute()
        make_dirs(self.root)
        make_dirs(self.cache)

    @cached_property
    def store(self) -> Store:
        """Layers, images and what is attached to them."""
        return Store.create(self.root / "store")

    def image(self, tag: str) -> Descriptor:
        """What ``tag`` names; raises ``NotFoundError``."""
        found = self.store.tags().get(tag)
        if found is None:
            raise NotFoundError(f"image {tag!r} not found", where=self.root, hint="see: edgepack package list")
        return found

    @cached_property
    def bases(self) -> BaseCache:
        """Base images, shared by all workspaces."""
        from packager.bases.cache import BaseCache

        return BaseCache(self.cache)

    @cached_property
    def models(self) -> ModelRegistry:
        """The model registry."""
        from packager.models.registry import ModelRegistry  # SQLAlchemy takes a quarter of a second to import

        return ModelRegistry(f"sqlite:///{self.root / 'models.db'}", self.store)

    @cached_property
    def builder(self) -> Builder:
        """What builds images of the registered models."""
        from packager.images.build import Builder
        from packager.wheels.cache import WheelCache

        return Builder(
            self.store,
            self.models,
            self.bases,
            WheelCache(self.cache),
            conversions=self.cache,
            locks=self.root / "locks",
            layers=self.root / "cache",
        )

    @cached_property
    def keys(self) -> KeyRing:
        """The signing keys."""
        return KeyRing(self.root / "keys")
