"""The rules by which an image is trusted. Pure: bytes in, a verdict out; ``statement`` does the reading.

1. The attachment is one of ours and says that this image is its subject: an artifact that is attached to another
   image, or is something else, is not taken for a statement (confusion of artifacts).
2. The envelope verifies with a trusted key (a forged or altered statement).
3. Its payload is an in-toto statement: the signature covers the type, so that nothing else that the same key signed,
   the list of a bundle for one, can be passed off as a statement (confusion of types).
4. Statement and predicate are of the types that we write: a true statement about something else, "this image was
   scanned", does not count as "this image may run" (confusion of predicates).
5. The image's digest is one of its subjects: a true statement on one image says nothing about another (replay).
6. A platform's manifest is trusted through a signed index only when the index, whose bytes hash to the digest that was
   signed, lists that very digest (substitution below a signed index).

Every breach raises ``SignatureError``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgepack.documents import canonical_json, parse_object
from edgepack.errors import InvalidDocumentError, InvalidReferenceError, SignatureError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest
from edgepack.signing import envelope
from edgepack.signing.keys import PublicKey

# in-toto attestation framework, spec/v1/statement.md
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://edgepack.dev/statement/v1"


@dataclass(frozen=True)
class Statement:
    """What a signer says: the image ``digest``, called ``name``, with these manifests by platform, may run.

    ``created`` is an RFC 3339 time, or ``None``: without one, equal images have equal statements. ``attachments`` are
    the artifacts that its signer vouches for too: the SBOM and the provenance of each platform's image.
    """

    name: str
    digest: Digest
    platforms: Mapping[str, Digest] = field(default_factory=dict)
    created_by: str = ""
    created: str | None = None
    attachments: tuple[Digest, ...] = ()

    def to_bytes(self) -> bytes:
        """The in-toto statement, canonical."""
        predicate: dict[str, Any] = {
            "platforms": {name: str(digest) for name, digest in self.platforms.items()},
            "created_by": self.created_by,
        }
        if self.created is not None:
            predicate["created"] = self.created
        if self.attachments:
            predicate["attachments"] = sorted(map(str, self.attachments))
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": self.name, "digest": {"sha256": self.digest.hex}}],
                "predicateType": PREDICATE_TYPE,
                "predicate": predicate,
            }
        )


@dataclass(frozen=True)
class Verified:
    """An image that trusted keys vouch for, and what is attached to it that they vouch for too."""

    key_ids: tuple[str, ...]
    statement: Statement
    attachments: frozenset[Digest] = frozenset()


def envelope_of(artifact: Manifest, image: Digest) -> Descriptor:
    """Rule 1: the descriptor of the envelope in the attachment ``artifact``."""
    where = f"statement on {image}"
    if artifact.artifact_type != mediatypes.STATEMENT_ARTIFACT:
        raise SignatureError(f"is of type {artifact.artifact_type!r}", where=where)
    if artifact.subject is None or artifact.subject.digest != image:
        raise SignatureError("is attached to another image", where=where)
    if len(artifact.layers) != 1 or artifact.layers[0].media_type != mediatypes.DSSE:
        raise SignatureError("does not hold exactly one DSSE envelope", where=where)
    return artifact.layers[0]


def check_statement(data: bytes, image: Digest, trusted: Collection[PublicKey]) -> Verified:
    """Rules 2 to 5, on the bytes of an envelope."""
    where = f"statement on {image}"
    opened = envelope.verify(data, mediatypes.IN_TOTO, trusted, where=where)
    try:
        statement = _parse(opened.payload, image, where)
    except (InvalidDocumentError, InvalidReferenceError) as error:
        raise SignatureError(f"is signed and malformed ({error.what})", where=where) from error
    return Verified(opened.key_ids, statement, frozenset(statement.attachments))


def check_member(index: Index, signed: Digest, manifest: Digest) -> None:
    """Rule 6, on an ``index`` whose bytes were found to hash to ``signed``."""
    if manifest not in {item.digest for item in index.manifests}:
        raise SignatureError(f"{manifest} is not listed in it", where=f"signed index {signed}")


def _parse(payload: bytes, image: Digest, where: str) -> Statement:
    value = parse_object(payload, where)
    types = value.get("_type"), value.get("predicateType")
    if types != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise SignatureError("is not a statement that the image may run (types {!r}, {!r})".format(*types), where=where)
    subjects, predicate = value.get("subject"), value.get("predicate")
    if not isinstance(subjects, list) or not isinstance(predicate, dict):
        raise InvalidDocumentError(where, ["subject must be a list and predicate an object"])
    names = [
        str(one.get("name", ""))
        for one in subjects
        if isinstance(one, dict) and isinstance(one.get("digest"), dict) and one["digest"].get("sha256") == image.hex
    ]
    if not names:
        raise SignatureError("is a statement on another image", where=where)
    platforms = predicate.get("platforms")
    if not isinstance(platforms, dict):
        raise InvalidDocumentError(where, ["predicate.platforms must be an object"])
    created, created_by = predicate.get("created"), predicate.get("created_by", "")
    if not isinstance(created, str | None) or not isinstance(created_by, str):
        raise InvalidDocumentError(where, ["predicate.created and predicate.created_by must be text"])
    attachments = predicate.get("attachments", [])
    if not isinstance(attachments, list):
        raise InvalidDocumentError(where, ["predicate.attachments must be a list"])
    return Statement(
        name=names[0],
        digest=image,
        platforms={name: Digest.parse(digest) for name, digest in platforms.items()},
        created_by=created_by,
        created=created,
        attachments=tuple(map(Digest.parse, attachments)),
    )
