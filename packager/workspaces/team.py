"""A team's part of a workspace: blobs in an image registry, which blobs are there in the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgepack.errors import EdgepackError
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import children
from edgepack.oci.reference import Reference, repository_of
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.database.database import Database
from packager.models.model import Conversion, Model
from packager.models.sharing import Shared, conversion_artifact, model_artifact
from packager.registries.logins import GivenLogins
from packager.workspaces.config import Team

if TYPE_CHECKING:
    from edgepack.oci.remote import RemoteRepository

_REPOSITORY = "SELECT repository FROM shared_blobs WHERE digest = ? ORDER BY repository LIMIT 1"


@dataclass(frozen=True)
class TeamBlobs:
    """The blobs of the models in ``database`` that ``team`` keeps in its registry; ``store`` has copies of some.

    ``is_offline`` says at each use whether the network may not be used.
    """

    team: Team
    database: Database
    store: Store
    is_offline: Callable[[], bool]
    logins: GivenLogins = field(default_factory=GivenLogins)

    def share(self, model: Model) -> Shared:
        """Send the files and samples of ``model`` as the artifact ``NAME:VERSION``; raises ``RegistryError``."""
        return self._send(model, model_artifact(model, self.store), str(model.version))

    def share_conversion(self, model: Model, conversion: Conversion) -> Shared:
        """Send the ONNX form of ``model`` as the artifact ``NAME:VERSION-onnx``; raises ``RegistryError``."""
        return self._send(model, conversion_artifact(model, conversion, self.store), f"{model.version}-onnx")

    def _send(self, model: Model, artifact: Descriptor, tag: str) -> Shared:
        reference = self.team.repository(repository_of(model.name))
        self._check_network(f"{reference.name}:{tag}")
        repository = self._repository(reference)
        copy(self.store, repository, artifact)
        repository.tag(tag, artifact)
        return Shared(reference.name, children(self.store, artifact))

    def knows(self, digest: Digest) -> bool:
        """Whether the database knows a repository that has the blob."""
        return self._repository_with(digest) is not None

    def source_of(self, digest: Digest) -> BlobSource | None:
        """The repository that has the blob; raises ``EdgepackError`` while the network may not be used."""
        name = self._repository_with(digest)
        if name is None:
            return None
        self._check_network(f"{name}@{digest}")
        return self._repository(Reference.parse(f"{name}@{digest}"))

    def _repository_with(self, digest: Digest) -> str | None:
        with self.database.reading() as connection:
            found = connection.column(_REPOSITORY, str(digest))
        return str(found[0]) if found else None

    def _repository(self, reference: Reference) -> RemoteRepository:
        from edgepack.oci.remote import RemoteRepository

        lookup = self.logins.lookup(named=reference.registry)
        return RemoteRepository(reference, policy=self.team.access().policy(), credentials=lookup)

    def _check_network(self, what: str) -> None:
        if self.is_offline():
            raise EdgepackError(
                f"{what} is in the team's registry, and asking that would need the network", where="--offline",
                hint="run it once without --offline",
            )  # fmt: skip
