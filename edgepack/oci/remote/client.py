"""One repository of a registry as a place of blobs (distribution-spec 1.1)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, cast

from edgepack.documents import parse_foreign
from edgepack.errors import InvalidDocumentError
from edgepack.host.credentials import CredentialLookup
from edgepack.oci.attachments import as_referrer, subject_of
from edgepack.oci.copy import CopyReport, copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.docker_config import Logins
from edgepack.oci.graph import children
from edgepack.oci.reference import Reference, checked_tag, is_repository
from edgepack.oci.remote.documents import TYPES, Documents
from edgepack.oci.remote.download import ResumingStream
from edgepack.oci.remote.known import KnownBlobs
from edgepack.oci.remote.referrers import Referrers, pages_of
from edgepack.oci.remote.session import Session
from edgepack.oci.remote.transport import Policy
from edgepack.oci.remote.upload import BlobUpload
from edgepack.oci.sources import BlobSource, read_verified


class RemoteRepository:
    """The repository of ``reference``: a ``BlobSource`` and a ``BlobSink``.

    Several threads may read and write blobs at once; all else is for one thread.

    ``credentials`` looks up what to log in with (by default what Docker and Podman keep) and is asked only when the
    registry wants to know; ``mount_from`` names repositories of the same registry that may have the blobs already, and
    ``known`` is told, and tells, which ones have.
    """

    concurrent = True

    def __init__(
        self,
        reference: Reference,
        *,
        credentials: CredentialLookup | None = None,
        policy: Policy | None = None,
        mount_from: Sequence[str] = (),
        known: KnownBlobs | None = None,
    ) -> None:
        self.reference = reference
        self._session = Session(reference, policy or Policy(), credentials or Logins.default())
        self._mount_from = tuple(mount_from)
        self._known = known or KnownBlobs()
        self._documents = Documents(self._session)
        self._referrers = Referrers(self._session, self._documents)
        # What was put here and is to be listed by the fallback tag, at once or a little later.
        self._unlisted: dict[Digest, list[Descriptor]] = {}
        self._lists_later = False

    def close(self) -> None:
        """Close the connections that are kept for further requests."""
        self._session.http.close()

    # Reading

    def resolve(self, target: str | Digest | None = None) -> Descriptor:
        """What a tag or digest (by default the reference's own) names, its bytes verified.

        Raises ``NotFoundError``, ``AuthenticationError``, ``RegistryUnavailableError``, ``DigestMismatchError`` when
        the bytes are not those of the digest asked for or announced, ``InvalidDocumentError`` when they are neither a
        manifest nor an index.
        """
        name = self.reference.target if target is None else str(target)
        return self._documents.fetch(str(Digest.parse(name)) if name.startswith("sha256:") else checked_tag(name))

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob, manifest or index from ``offset`` on; a blob's are verified by whoever takes them.

        A broken connection is made again where it broke. Raises what ``resolve`` raises, and ``SizeMismatchError``.
        """
        if descriptor.media_type in TYPES:
            stream: BinaryIO = io.BytesIO(self._documents.read(descriptor)[offset:])
        else:
            stream = cast(BinaryIO, ResumingStream(self._session, descriptor, offset))
            self._known.note(descriptor.digest, self.reference.repository)
        with stream:
            yield stream

    def tags(self) -> tuple[str, ...]:
        """The tags of the repository, without those that hold referrers; raises as ``resolve`` does."""
        found: set[str] = set()
        for page in pages_of(self._session, self._session.url("tags/list"), {}, "list of tags"):
            found.update(tag for tag in parse_foreign(page, "tags").get("tags") or () if isinstance(tag, str))
        return tuple(sorted(tag for tag in found if not tag.startswith("sha256-")))

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``, as far as the registry tells; see ``Referrers.list``."""
        return self._referrers.list(subject, artifact_type)

    def require_referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The same; raises ``RegistryUnavailableError`` where a list could not be had now and nothing is known."""
        return self._referrers.require(subject, artifact_type)

    # Writing

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob, manifest or index is there, with the announced size."""
        if descriptor.media_type in TYPES:
            return self._documents.has(descriptor)
        url = self._session.url(f"blobs/{descriptor.digest}")
        response = self._session.send("HEAD", url)
        found = self._session.has_answered(
            response, descriptor, f"blob {descriptor.digest}", lambda: self._session.send("GET", url)
        )
        if found:
            self._known.note(descriptor.digest, self.reference.repository)
        return found

    def put(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Take a blob, manifest or index from ``source``; what a manifest needs must be there already.

        Raises what the source raises, ``VerificationError`` when the bytes are not what the descriptor says, and
        ``RegistryError``.
        """
        if descriptor.media_type not in TYPES:
            mine = self.reference.repository
            # One of those that are known: each that has it no more would cost a request.
            known = [name for name in self._known.repositories(descriptor.digest) if name != mine][:1]
            others = [name for name in (*self._mount_from, *known) if is_repository(name) and name != mine]
            BlobUpload(self._session, descriptor, source, lambda: self.has(descriptor)).run(others)
            self._known.note(descriptor.digest, mine)
            return
        data = read_verified(source, descriptor)
        response = self._documents.put(str(descriptor.digest), data, descriptor.media_type)
        subject = subject_of(data, f"manifest {descriptor.digest}")
        if subject is not None and "OCI-Subject" not in response.headers:
            self._unlisted.setdefault(subject, []).append(as_referrer(data, descriptor))
            if not self._lists_later:
                self._list_referrers()

    def tag(self, tag: str, descriptor: Descriptor) -> None:
        """Let ``tag`` name a manifest or index that is there; raises ``InvalidReferenceError``, ``NotFoundError``."""
        self._documents.put(checked_tag(tag), self._documents.read(descriptor), descriptor.media_type)

    def attach(self, artifact: Descriptor, source: BlobSource) -> CopyReport:
        """Bring an artifact, whose manifest names its ``subject``, with its blobs, and list it there.

        May be repeated; one that was killed half-way is completed by the next.
        """
        return self.attach_all([artifact], source)

    def attach_all(self, artifacts: Iterable[Descriptor], source: BlobSource) -> CopyReport:
        """As ``attach``, each; where the registry keeps no list itself, they are listed together at the end."""
        moved = CopyReport(0, 0, 0)
        self._lists_later = True
        try:
            for artifact in artifacts:
                if subject_of(read_verified(source, artifact), f"manifest {artifact.digest}") is None:
                    raise InvalidDocumentError(f"manifest {artifact.digest}", ["has no subject"])
                for blob in children(source, artifact):
                    moved += copy(source, self, blob)
                is_new = not self.has(artifact)
                self.put(artifact, source)  # again, for it may be here and not be listed
                moved += CopyReport(artifact.size, 1, 0) if is_new else CopyReport(0, 0, artifact.size)
        finally:
            self._lists_later = False
        self._list_referrers()
        return moved

    def _list_referrers(self) -> None:
        while self._unlisted:
            subject, artifacts = self._unlisted.popitem()
            self._referrers.add(subject, artifacts)
