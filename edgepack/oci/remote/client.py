"""One repository of a registry as a place of blobs (distribution-spec 1.1)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO
from urllib.parse import quote

from edgepack.documents import parse_object
from edgepack.errors import DigestMismatchError, InvalidDocumentError, NotFoundError, RegistryError, TooLargeError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import children
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reference import Reference, checked_tag, is_repository
from edgepack.oci.remote.credentials import CredentialLookup, DockerConfig
from edgepack.oci.remote.download import ResumingStream
from edgepack.oci.remote.session import Session
from edgepack.oci.remote.transport import Policy, Response
from edgepack.oci.remote.upload import BlobUpload
from edgepack.oci.sources import BlobSource, read_verified
from edgepack.oci.store import referrers_tag

_DOCUMENTS = mediatypes.INDEXES | mediatypes.MANIFESTS
_ACCEPT = ", ".join((mediatypes.INDEX, mediatypes.MANIFEST, mediatypes.DOCKER_INDEX, mediatypes.DOCKER_MANIFEST))


class RemoteRepository:
    """The repository of ``reference``: a ``BlobSource`` and a ``BlobSink``. Not for several threads at once.

    ``credentials`` looks up what to log in with (Docker's configuration by default) and is asked only when the
    registry wants to know; ``mount_from`` names repositories of the same registry that may have the blobs already.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        credentials: CredentialLookup | None = None,
        policy: Policy | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        self.reference = reference
        self._session = Session(reference, policy or Policy(), credentials or DockerConfig.default())
        self._mount_from = tuple(name for name in mount_from if is_repository(name) and name != reference.repository)
        # The last manifests, verified: reading one after resolving it costs no second request.
        self._kept: dict[Digest, bytes] = {}

    # Reading

    def resolve(self, target: str | Digest | None = None) -> Descriptor:
        """What a tag or digest (by default the reference's own) names, its bytes verified.

        Raises ``NotFoundError``, ``AuthenticationError``, ``RegistryUnavailableError``, ``DigestMismatchError`` when
        the bytes are not those of the digest asked for or announced, ``InvalidDocumentError`` when they are neither a
        manifest nor an index.
        """
        name = self.reference.target if target is None else str(target)
        return self._fetch(str(Digest.parse(name)) if name.startswith("sha256:") else checked_tag(name))

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob, manifest or index from ``offset`` on; a blob's are verified by whoever takes them.

        A broken connection is made again where it broke. Raises what ``resolve`` raises, and ``SizeMismatchError``.
        """
        if descriptor.media_type in _DOCUMENTS:
            stream: BinaryIO = io.BytesIO(self._document(descriptor)[offset:])
        else:
            stream = io.BufferedReader(ResumingStream(self._session, descriptor, offset), LIMITS.chunk_bytes)
        with stream:
            yield stream

    def tags(self) -> tuple[str, ...]:
        """The tags of the repository, without those that hold referrers; raises as ``resolve`` does."""
        found: set[str] = set()
        for page in self._pages(self._session.url("tags/list"), {}, "list of tags"):
            found.update(tag for tag in parse_object(page, "tags").get("tags") or () if isinstance(tag, str))
        return tuple(sorted(tag for tag in found if not tag.startswith("sha256-")))

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``: by the registry's own list, or by the fallback tag."""
        query = "" if artifact_type is None else f"?artifactType={quote(artifact_type, safe='')}"
        try:
            pages = list(
                self._pages(
                    self._session.url(f"referrers/{subject}{query}"), {"Accept": mediatypes.INDEX}, "list of referrers"
                )
            )
            found = [one for page in pages for one in Index.from_bytes(page, f"referrers of {subject}").manifests]
        except NotFoundError:
            found = list(self._tagged_referrers(subject))
        return tuple(one for one in found if artifact_type in (None, one.artifact_type))

    def _tagged_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        try:
            listing = self._fetch(referrers_tag(subject))
        except NotFoundError:
            return ()
        return Index.from_bytes(self._document(listing), f"referrers of {subject}").manifests

    def _document(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > LIMITS.manifest_bytes:
            raise TooLargeError(
                f"is {descriptor.size} bytes; at most {LIMITS.manifest_bytes} are read", where=descriptor.digest
            )
        if descriptor.digest not in self._kept:
            self._fetch(str(descriptor.digest))
        return self._kept[descriptor.digest]

    def _fetch(self, target: str) -> Descriptor:
        what = f"manifest {target}"
        response = self._session.send("GET", self._session.url(f"manifests/{target}"), {"Accept": _ACCEPT})
        self._session.expect(response, 200, what=what)
        data = response.read(LIMITS.manifest_bytes)
        digest = Digest.of(data)
        announced = response.headers.get("Docker-Content-Digest", "")
        for name in (target, announced):
            if name.startswith("sha256:") and name != str(digest):
                raise DigestMismatchError(
                    f"the content hashes to {digest}", where=f"{self.reference.name}@{name}", hint="do not trust it"
                )
        media_type = _media_type(data, response.headers.get("Content-Type", ""), f"{self.reference.name} {what}")
        (Index if media_type in mediatypes.INDEXES else Manifest).from_bytes(data, what)  # whole, or not taken at all
        self._keep(digest, data)
        return Descriptor(media_type, digest, len(data))

    def _keep(self, digest: Digest, data: bytes) -> None:
        self._kept.pop(digest, None)
        self._kept[digest] = data
        while sum(map(len, self._kept.values())) > LIMITS.kept_manifest_bytes:
            del self._kept[next(iter(self._kept))]

    def _pages(self, url: str, headers: dict[str, str], what: str) -> Iterator[bytes]:
        """The pages of a listing, each led to by the one before (RFC 5988 Link)."""
        for _ in range(LIMITS.listing_pages):
            response = self._session.expect(self._session.send("GET", url, headers), 200, what=what)
            yield response.read(LIMITS.manifest_bytes)
            link, _, parameters = response.headers.get("Link", "").partition(";")
            if "next" not in parameters:
                return
            url = self._session.absolute(link.strip().strip("<>"))
        raise RegistryError(f"the {what} does not end", where=self.reference.name)

    # Writing

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob, manifest or index is there, with the announced size."""
        kind = "manifests" if descriptor.media_type in _DOCUMENTS else "blobs"
        headers = {"Accept": _ACCEPT} if kind == "manifests" else {}
        response = self._session.send("HEAD", self._session.url(f"{kind}/{descriptor.digest}"), headers)
        response.close()
        if response.status == 404:
            return False
        self._session.expect(response, 200, what=f"blob {descriptor.digest}")
        return response.headers.get("Content-Length", str(descriptor.size)) == str(descriptor.size)

    def put(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Take a blob, manifest or index from ``source``; what a manifest needs must be there already.

        Raises what the source raises, ``VerificationError`` when the bytes are not what the descriptor says, and
        ``RegistryError``.
        """
        if descriptor.media_type not in _DOCUMENTS:
            BlobUpload(self._session, descriptor, source, lambda: self.has(descriptor)).run(self._mount_from)
            return
        data = read_verified(source, descriptor)
        response = self._put_document(str(descriptor.digest), data, descriptor.media_type)
        subject = _subject(data, descriptor)
        if subject is not None and "OCI-Subject" not in response.headers:
            self._list_referrer(subject, _as_referrer(data, descriptor))

    def tag(self, tag: str, descriptor: Descriptor) -> None:
        """Let ``tag`` name a manifest or index that is there; raises ``InvalidReferenceError``, ``NotFoundError``."""
        self._put_document(checked_tag(tag), self._document(descriptor), descriptor.media_type)

    def attach(self, artifact: Descriptor, source: BlobSource) -> None:
        """Bring an artifact, whose manifest names its ``subject``, with its blobs, and list it there.

        May be repeated; one that was killed half-way is completed by the next.
        """
        data = read_verified(source, artifact)
        subject = _subject(data, artifact)
        if subject is None:
            raise InvalidDocumentError(f"manifest {artifact.digest}", ["has no subject"])
        for blob in children(source, artifact):
            copy(source, self, blob)
        self.put(artifact, source)

    def _put_document(self, target: str, data: bytes, media_type: str) -> Response:
        response = self._session.send(
            "PUT", self._session.url(f"manifests/{target}"), {"Content-Type": media_type}, data
        )
        self._session.expect(response, 201, what=f"manifest {target}")
        response.close()
        digest = Digest.of(data)
        if response.headers.get("Docker-Content-Digest", str(digest)) != str(digest):
            raise DigestMismatchError(
                "the registry stored other bytes", where=f"{self.reference.name}@{digest}", hint="push it again"
            )
        self._keep(digest, data)
        return response

    def _list_referrer(self, subject: Digest, artifact: Descriptor) -> None:
        """Keep the fallback tag ("Referrers Tag Schema"); another client may write it too, so look again."""
        for _ in range(self._session.policy.attempts):
            known = {one.digest: one for one in self._tagged_referrers(subject)}
            if known.get(artifact.digest) == artifact:
                return
            known[artifact.digest] = artifact
            listing = Index(tuple(item for _, item in sorted(known.items())))
            self._put_document(referrers_tag(subject), listing.to_bytes(), listing.media_type)
        if artifact.digest not in {one.digest for one in self._tagged_referrers(subject)}:
            raise RegistryError(
                "the list of referrers lacks an artifact that was just added", where=self.reference.name
            )


def _media_type(data: bytes, content_type: str, where: str) -> str:
    """What the document is; the header and the document must not contradict each other (image-spec, "mediaType")."""
    value = parse_object(data, where)
    said, header = value.get("mediaType"), content_type.partition(";")[0].strip().lower()
    if said in _DOCUMENTS:
        if header in _DOCUMENTS and header != said:
            raise InvalidDocumentError(where, [f"says that it is {said} and was sent as {header}"])
        return str(said)
    if said is None and header in _DOCUMENTS:
        return header
    if said is None and "manifests" in value:
        return mediatypes.INDEX
    if said is None and "layers" in value:
        return mediatypes.MANIFEST
    raise InvalidDocumentError(where, ["is neither an image manifest nor an image index"])


def _subject(data: bytes, descriptor: Descriptor) -> Digest | None:
    subject = parse_object(data, f"manifest {descriptor.digest}").get("subject")
    return None if subject is None else Descriptor.from_json(subject, f"manifest {descriptor.digest}: subject").digest


def _as_referrer(data: bytes, descriptor: Descriptor) -> Descriptor:
    """The artifact as a list of referrers names it: its type (or its configuration's) and its annotations."""
    value = parse_object(data, f"manifest {descriptor.digest}")
    config = value.get("config")
    kind = value.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    return replace(descriptor, artifact_type=kind, annotations=dict(value.get("annotations") or {}), platform=None)
