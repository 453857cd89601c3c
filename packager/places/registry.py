"""``docker://REFERENCE`` or a bare reference that says which registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgepack.errors import EdgepackError, NotFoundError
from edgepack.host.progress import Progress, unseen
from edgepack.oci.attachments import subjects
from edgepack.oci.copy import CopyReport, copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.places.place import Place
from packager.registries.access import Access

if TYPE_CHECKING:
    from edgepack.oci.remote import RemoteRepository


@dataclass(frozen=True)
class Registry(Place):
    """An image in a registry, reached by ``access``; the HTTP client is imported when it is asked."""

    access: Access = field(default_factory=Access)

    prefix = "docker://"
    wanted = "reference"
    carries_attachments = True

    @contextmanager
    def open(self, *, offline: bool = False) -> Iterator[tuple[BlobSource, Descriptor]]:
        """What the reference names."""
        if offline:
            raise EdgepackError(
                f"{self.name} is not in the workspace, and fetching it would need the network",
                where="--offline",
                hint=f"fetch it while there is one: edgepack package pull {self.name}",
            )
        with self._repository() as repository:
            yield repository, repository.resolve()

    def send(self, store: Store, tag: str, root: Descriptor, progress: Progress = unseen) -> CopyReport:
        """Copy what the registry lacks, and attach there what is attached here.

        What another of its repositories has is mounted from there, where the registry does that.
        """
        with self._repository() as repository:
            report = copy(store, repository, root, progress=progress)
            repository.tag(repository.reference.tag or "latest", root)
            attached = [one for image in subjects(store, root) for one in store.referrers(image.digest)]
            return report + repository.attach_all(attached, store)

    def attest(self, store: Store, image: Descriptor, envelope: bytes) -> None:
        """Let the tag that cosign 2 looks for name ``envelope`` too, a statement on ``image``, which is there."""
        from edgepack.oci.manifest import Manifest
        from edgepack.oci.sources import read_verified
        from edgepack.signing.sigstore import attestations_tag, put_attestations

        tag = attestations_tag(image.digest)
        with self._repository() as repository:
            others: tuple[Descriptor, ...] = ()
            with suppress(NotFoundError):
                others = Manifest.from_bytes(read_verified(repository, repository.resolve(tag)), tag).layers
            made = put_attestations(store, envelope, others)
            copy(store, repository, made)
            repository.tag(tag, made)

    @property
    def public_name(self) -> str | None:
        """The reference."""
        return self.name

    @contextmanager
    def _repository(self) -> Iterator[RemoteRepository]:
        from edgepack.oci.reference import Reference
        from edgepack.oci.remote import RemoteRepository
        from packager.registries.known_blobs import known_blobs

        reference = Reference.parse(self.name)
        lookup = self.access.logins.lookup(named=reference.registry)
        with known_blobs(reference.registry) as known:
            yield RemoteRepository(reference, policy=self.access.policy(), credentials=lookup, known=known)
