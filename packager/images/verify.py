"""Whether an image in a workspace is what it says: every blob read again, what is attached, and who signed it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from edgepack.documents import parse_foreign
from edgepack.errors import (
    EdgepackError,
    InvalidDocumentError,
    NotFoundError,
    SignatureError,
    UntrustedKeyError,
    VerificationError,
)
from edgepack.oci import attachments, graph, mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.validate import Finding, validate
from edgepack.signing.keys import PublicKey
from edgepack.signing.statement import verify_image
from packager.images.documents import check_subject
from packager.images.provenance import PREDICATE_TYPE


@dataclass(frozen=True)
class CheckedAttachment:
    """An artifact on ``subject``: what it is, and the names of the keys whose statement vouches for it."""

    subject: Digest
    digest: Digest
    kind: str
    signed_by: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """What was looked at, and everything that is wrong; ``unknown_keys`` signed it and are not of this workspace."""

    blobs: int
    size: int
    attachments: tuple[CheckedAttachment, ...]
    signed_by: tuple[str, ...]
    unknown_keys: bool
    findings: tuple[Finding, ...]


def verify(store: Store, root: Descriptor, keys: Mapping[str, PublicKey]) -> Verification:
    """Look at all of the image ``root`` in ``store``, with the ``keys`` by their names.

    Damage is a finding, never an error. What is looked at is read by other code than what wrote it.
    """
    findings = validate(store, root, foreign_links=True)
    blobs: dict[Digest, int] = {}
    with suppress(EdgepackError):  # it is among the findings
        blobs = {item.digest: item.size for item in graph.walk(store, root)}
    signed_by, covered, unknown = _signatures(store, root, keys, findings)
    found = []
    with suppress(EdgepackError):
        for image in attachments.subjects(store, root):
            for artifact in _listed(store, image, findings):
                kind = artifact.annotations.get(mediatypes.ATTACHMENT_KIND) or artifact.artifact_type or ""
                is_statement = artifact.artifact_type == mediatypes.STATEMENT_ARTIFACT
                _check(store, image, artifact, findings)
                by = tuple(name for name, digests in covered.items() if artifact.digest in digests)
                kind = "statement" if is_statement else kind
                found.append(CheckedAttachment(image.digest, artifact.digest, kind, by))
    return Verification(len(blobs), sum(blobs.values()), tuple(found), signed_by, unknown, tuple(findings))


def _listed(store: Store, image: Descriptor, findings: list[Finding]) -> tuple[Descriptor, ...]:
    try:
        return store.referrers(image.digest)
    except (VerificationError, InvalidDocumentError, NotFoundError) as error:
        findings.append(Finding(f"list of what is attached to {image.digest}", error.what))
        return ()


def _signatures(
    store: Store, root: Descriptor, keys: Mapping[str, PublicKey], findings: list[Finding]
) -> tuple[tuple[str, ...], dict[str, frozenset[Digest]], bool]:
    """The names of the keys that signed, what each vouches for besides, and whether another key did."""
    covered: dict[str, frozenset[Digest]] = {}
    unknown = False
    for artifact in _listed(store, root, []):
        if artifact.artifact_type != mediatypes.STATEMENT_ARTIFACT:
            continue
        only = _Only(store, artifact)
        signers = 0
        for name, key in keys.items():
            try:
                verified = verify_image(only, root.digest, [key])
            except UntrustedKeyError:
                continue
            except (SignatureError, VerificationError, NotFoundError, InvalidDocumentError) as error:
                findings.append(Finding(f"statement {artifact.digest}", error.what))
                signers += 1
                break
            covered[name] = covered.get(name, frozenset()) | verified.attachments | {artifact.digest}
            signers += 1
        unknown = unknown or not signers
    return tuple(sorted(covered)), covered, unknown


@dataclass(frozen=True)
class _Only:
    """A store with one statement in it."""

    store: Store
    statement: Descriptor

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The statement."""
        return (self.statement,)

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of a blob."""
        return self.store.open(descriptor, offset)


def _check(store: Store, image: Descriptor, artifact: Descriptor, findings: list[Finding]) -> None:
    """Every blob of an attachment, what it is attached to by itself, and what its document says that it is about."""
    where = f"attachment {artifact.digest}"
    try:
        if artifact.media_type not in mediatypes.MANIFESTS:
            return
        manifest = graph.read_manifest(store, artifact)
        if manifest.subject is None or manifest.subject.digest != image.digest:
            findings.append(Finding(where, f"is listed as attached to {image.digest} and says itself that it is not"))
            return
        if attachments.kind_of(manifest) != artifact.artifact_type:
            findings.append(Finding(where, f"is listed as {artifact.artifact_type}, and is another kind"))
        for blob in manifest.blobs:
            if not store.is_sound(blob.digest) or not store.has(blob):
                findings.append(Finding(where, f"its blob {blob.digest} is missing or damaged"))
                return
        kind = _document(manifest.artifact_type)
        if kind is not None:
            value = parse_foreign(attachments.read(store, image.digest, artifact).data, where)
            if kind == "sbom" or value.get("predicateType") == PREDICATE_TYPE:
                check_subject(value, kind, image, where)
    except (VerificationError, InvalidDocumentError, NotFoundError) as error:
        findings.append(Finding(where, error.what))


def _document(artifact_type: str | None) -> str | None:
    return {mediatypes.CYCLONEDX: "sbom", mediatypes.IN_TOTO: "provenance"}.get(artifact_type or "")
