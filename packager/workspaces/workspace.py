"""A workspace: one store, one model registry, the keys, and what is cached beside them."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import NotFoundError, UsageError, disk_errors
from edgepack.host.files import make_dirs
from edgepack.host.home import cache_folder, user_folder, usual_folder
from edgepack.names import ModelRef
from edgepack.nearness import listed, tag_meant
from edgepack.oci.descriptor import Descriptor
from edgepack.signing.keys import KeyRing
from packager.registries.logins import GivenLogins
from packager.workspaces.config import FILE, Team, WorkspaceConfig
from packager.workspaces.kept_store import WorkspaceStore
from packager.workspaces.passphrases import passphrase_of

if TYPE_CHECKING:
    from packager.bases.cache import BaseCache
    from packager.database.database import Database
    from packager.environments.registry import EnvironmentRegistry
    from packager.fleet.registry import DeviceRegistry
    from packager.images.build import Builder
    from packager.models.model import Model
    from packager.models.registry import ModelRegistry
    from packager.workspaces.team import TeamBlobs


_STORE, _MODELS, _KEYS = "store", "models.db", "keys"
# Where the targets of services are kept that are clusters.
_CLUSTERS = Path("services", "compute")
_CACHE, _DATA = "EDGEPACK_CACHE", ("XDG_DATA_HOME", ".local/share")


def default_root() -> Path:
    """``EDGEPACK_WORKSPACE``, or the user's data folder (XDG base directories)."""
    return user_folder("EDGEPACK_WORKSPACE", *_DATA)


def default_cache() -> Path:
    """``EDGEPACK_CACHE``, or the user's cache folder: wheels, bases and conversions, which all workspaces share."""
    return cache_folder()


def _has_files(folder: Path, ending: str = "") -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.endswith(ending) for entry in entries)
    except FileNotFoundError:
        return False


def _has_records(path: Path) -> bool:
    """Whether a version number was ever given in the database at ``path``; one that cannot be read may have some.

    Of an earlier edgepack it had only models, whose blobs are found without it.
    """
    import sqlite3

    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            has_table = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'last_versions'").fetchone()
            return bool(has_table and connection.execute("SELECT 1 FROM last_versions LIMIT 1").fetchone())
    except sqlite3.Error:
        return True


@dataclass(frozen=True)
class Held:
    """What a workspace has: records of its models and environments, its images, and its store's blobs and bytes."""

    models: int
    environments: int
    images: int
    blobs: int
    size: int


class Workspace:
    """Everything that the workstation keeps below ``root``; ``cache`` may be shared and thrown away.

    Its folder is created when a part of it is first used; without ``create``, ``NotFoundError`` is raised then for a
    folder that nothing was ever put into. While it ``is_offline``, nothing that a team has is fetched or sent.
    ``logins`` are those for a team's registry.
    """

    def __init__(self, root: Path | None = None, cache: Path | None = None, *, create: bool = True) -> None:
        self.root = (root or default_root()).absolute()
        self.cache = (cache or default_cache()).absolute()
        self._create = create
        self.is_offline = False
        self.logins = GivenLogins()
        try:
            make_dirs(self.cache)
        except UsageError as error:
            if cache is not None or os.environ.get(_CACHE):
                raise
            hint = f"set {_CACHE} to a folder of yours; without it the cache is {self.cache}"
            raise UsageError(error.what, where=error.where, hint=hint) from error

    @property
    def exists(self) -> bool:
        """Whether anything was ever put into it: a key, its settings, a blob, an environment, a compute target."""
        with disk_errors(self.root):
            return (
                _has_files(self.root / _KEYS, ".key")
                or _has_files(self.root / _STORE / "blobs" / "sha256")
                or _has_records(self.root / _MODELS)
                or _has_files(self.root / _CLUSTERS, ".json")
                or (self.root / FILE).exists()
            )

    @property
    def is_unused(self) -> bool:
        """Whether it is the user's own, which nobody has to name, and nothing was ever put into it."""
        usual = usual_folder(*_DATA)
        return usual is not None and self.root == usual.absolute() and not self.exists

    @cached_property
    def _folder(self) -> Path:
        if self._create:
            make_dirs(self.root)
        elif not self.exists:
            raise NotFoundError(
                "is not a workspace" if self.root.exists() else "there is no such workspace",
                where=self.root,
                hint="check --workspace and EDGEPACK_WORKSPACE; a new one is made by: edgepack model register",
            )
        return self.root

    @cached_property
    def config(self) -> WorkspaceConfig:
        """Its name, and where a team keeps it; raises ``UsageError`` for a file that is wrong."""
        return WorkspaceConfig.read(self.root)

    @cached_property
    def store(self) -> WorkspaceStore:
        """Layers, images and what is attached to them; for a team, what only its registry has is fetched when read."""
        if self.config.team is None:
            return WorkspaceStore.opened(self._folder / _STORE)
        from packager.workspaces.team_store import TeamStore

        return TeamStore.of_team(self._folder / _STORE, lambda: self._blobs)

    @cached_property
    def _blobs(self) -> TeamBlobs | None:
        """A team's blobs in its registry."""
        team = self.config.team
        return None if team is None else self.blobs_of(team, self.database)

    def blobs_of(self, team: Team, database: Database) -> TeamBlobs:
        """The blobs of a ``team`` with this ``database``, of which this store has copies."""
        from packager.workspaces.team import TeamBlobs

        return TeamBlobs(team, database, self.store, lambda: self.is_offline, self.logins)

    def image(self, tag: str) -> Descriptor:
        """What ``tag`` names; raises ``NotFoundError``."""
        tags = self.store.tags()
        found = tags.get(tag)
        if found is None:
            hint = tag_meant(tag, tags, "see: edgepack package list")
            raise NotFoundError(f"image {tag!r} not found", where=self.root, hint=hint)
        return found

    @cached_property
    def bases(self) -> BaseCache:
        """Base images, shared by all workspaces."""
        from packager.bases.cache import BaseCache

        return BaseCache(self.cache)

    @property
    def refusals(self) -> Path:
        """The folder of the reports of models that could not be converted."""
        return self.root / "refusals"

    @cached_property
    def models(self) -> ModelRegistry:
        """The model registry."""
        from packager.models.registry import ModelRegistry

        return ModelRegistry(self.database, self.store, self._blobs)

    def delete_model(self, ref: ModelRef) -> Model:
        """Remove a model that no package uses; raises ``NotFoundError``, ``UsageError`` naming the packages."""
        from packager.images.inspect import tags_with

        if ref.version is None:
            raise UsageError("say which version", where=f"model {ref}", hint=f"such as {self.models.get(ref).id}")
        model = self.models.get(ref)
        if used := tags_with(self.store, model.id):
            raise UsageError(
                f"is used by the package{'s' if len(used) > 1 else ''} {listed(used)}", where=f"model {model.id}",
                hint=f"delete it first: edgepack package delete {used[0]}",
            )  # fmt: skip
        return self.models.delete(model.ref)

    @cached_property
    def environments(self) -> EnvironmentRegistry:
        """The registry of environments."""
        from packager.environments.registry import EnvironmentRegistry

        return EnvironmentRegistry(self.database)

    @cached_property
    def devices(self) -> DeviceRegistry:
        """The devices of the fleet."""
        from packager.fleet.registry import DeviceRegistry

        return DeviceRegistry(self.database)

    @cached_property
    def database(self) -> Database:
        """Where the models, environments and their version numbers are recorded."""
        return self.database_of(self.config)

    @cached_property
    def own_database(self) -> Database:
        """What is recorded of this machine alone, such as the services on it; no team shares it."""
        return self.database if self.config.team is None else self.database_of(replace(self.config, team=None))

    def database_of(self, config: WorkspaceConfig) -> Database:
        """The database that this workspace has by ``config``."""
        from packager.database.database import Database

        if config.team is not None:
            return Database.at(config.team.database)
        return Database.beside((self.root if self._create else self._folder) / _MODELS)

    def configure(self, config: WorkspaceConfig) -> None:
        """Take other settings, once their database answers; raises what the database raises."""
        self.database_of(config)
        config.write(self._folder)
        for part in (
            "config",
            "store",
            "database",
            "own_database",
            "models",
            "environments",
            "devices",
            "builder",
            "_blobs",
        ):
            self.__dict__.pop(part, None)

    def holds_records(self) -> bool:
        """Whether a model, an environment or a device was ever registered."""
        held = self.held()
        return held.models + held.environments > 0 or bool(self.devices.list())

    def held(self) -> Held:
        """How much is in it."""
        with self.database.reading() as connection:
            (models,) = connection.column("SELECT count(*) FROM models")
            (environments,) = connection.column("SELECT count(*) FROM environments")
        sizes = [self.store.path(digest).stat().st_size for digest in self.store.digests()]
        return Held(models, environments, len(self.store.tags()), len(sizes), sum(sizes))

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
            refusals=self.refusals,
            locks=self.root / "locks",
            layers=self.root / "cache",
        )

    @cached_property
    def keys(self) -> KeyRing:
        """The signing keys."""
        return KeyRing(self._folder / _KEYS, passphrase_of)
