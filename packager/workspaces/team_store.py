"""The store of a team's workspace: what only the team's registry has is fetched when it is needed, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.sources import BlobSource
from packager.workspaces.kept_store import WorkspaceStore


class Behind(Protocol):
    """What a store asks for blobs that it lacks."""

    def source_of(self, digest: Digest) -> BlobSource | None:
        """Where the blob can be had; raises ``EdgepackError`` where that needs a network that may not be used."""

    def knows(self, digest: Digest) -> bool:
        """Whether the blob can be had; asks no registry."""


class TeamStore(WorkspaceStore):
    """A store with others behind it; ``of_team`` says how to ask for them when they are first needed."""

    concurrent = False

    _ask: Callable[[], Behind | None]

    @classmethod
    def of_team(cls, root: Path, ask: Callable[[], Behind | None]) -> TeamStore:
        """The layout at ``root``, made where there is none."""
        store = cls.opened(root)
        store._ask = ask
        return store

    @cached_property
    def _behind(self) -> Behind | None:
        return self._ask()

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """As ``Store.open``; a blob that is not here is fetched first, verified. Raises what the registry raises."""
        if self._behind is not None and not self.has(descriptor):
            source = self._behind.source_of(descriptor.digest)
            if source is not None:
                self.put(descriptor, source)
        with super().open(descriptor, offset) as stream:
            yield stream

    def can_give(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here or can be fetched."""
        return self.has(descriptor) or (self._behind is not None and self._behind.knows(descriptor.digest))
