"""Statements on images: made and attached on the workstation, found and verified on the device.

A statement travels as an OCI artifact whose ``subject`` is the image (image-spec 1.1, manifest.md, "Guidelines for
Artifact Usage"): the empty configuration and one layer, the DSSE envelope.
"""

from __future__ import annotations

from collections.abc import Collection

import edgepack
from edgepack.errors import InvalidDocumentError, NotFoundError, SignatureError, VerificationError
from edgepack.oci import attachments, mediatypes
from edgepack.oci.attachments import Attachment, HasReferrers
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import images
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.sources import BlobSource, read_verified
from edgepack.oci.store import Store
from edgepack.signing import envelope
from edgepack.signing.keys import PrivateKey, PublicKey
from edgepack.signing.rules import Statement, Verified, check_member, check_statement, envelope_of


def make_statement(source: BlobSource, image: Descriptor, name: str, created: str | None = None) -> Statement:
    """The statement that ``image``, called ``name``, may run; raises ``NotFoundError`` for what cannot be read."""
    platforms = {}
    for descriptor, manifest in images(source, image):
        platform = descriptor.platform
        if platform is None and manifest.config.media_type in mediatypes.CONFIGS:
            platform = ImageConfig.from_bytes(read_verified(source, manifest.config)).platform
        if platform is not None:
            platforms[str(platform)] = descriptor.digest
    attached = vouched_for(source, image)
    return Statement(name, image.digest, platforms, f"edgepack {edgepack.__version__}", created, attached)


def vouched_for(source: BlobSource, image: Descriptor) -> tuple[Digest, ...]:
    """What a statement on ``image`` covers of what is attached: what edgepack made when it built each of its images."""
    if not isinstance(source, HasReferrers):
        return ()
    listed = [one for part in attachments.subjects(source, image) for one in source.referrers(part.digest)]
    return tuple(sorted({one.digest for one in listed if mediatypes.ATTACHMENT_KIND in one.annotations}))


def attach(store: Store, image: Descriptor, name: str, key: PrivateKey, created: str | None = None) -> Descriptor:
    """Sign the statement on ``image`` and attach it in ``store``; returns the artifact's descriptor.

    Deterministic unless ``created`` differs; attaching the same again changes nothing.
    """
    payload = make_statement(store, image, name, created).to_bytes()
    signed = envelope.sign(payload, mediatypes.IN_TOTO, key)
    return attachments.attach(store, image, Attachment(mediatypes.STATEMENT_ARTIFACT, mediatypes.DSSE, signed))


def ensure_signed(store: Store, image: Descriptor, name: str, key: PrivateKey) -> bytes:
    """Attach a statement by ``key`` to ``image``, called ``name``, unless it has one; returns its envelope."""
    covered = frozenset(vouched_for(store, image))
    for artifact in store.referrers(image.digest, mediatypes.STATEMENT_ARTIFACT):
        try:
            data, verified = _checked(store, artifact, image.digest, [key.public])
        except (VerificationError, NotFoundError, InvalidDocumentError):
            continue
        if verified.attachments >= covered:
            return data
    return _checked(store, attach(store, image, name, key), image.digest, [key.public])[0]


def _checked(
    source: BlobSource, artifact: Descriptor, image: Digest, trusted: Collection[PublicKey]
) -> tuple[bytes, Verified]:
    """The envelope in ``artifact``, and what trusted keys say in it."""
    manifest = Manifest.from_bytes(read_verified(source, artifact), f"statement {artifact.digest}")
    data = read_verified(source, envelope_of(manifest, image))
    return data, check_statement(data, image, trusted)


def verify_image(
    source: HasReferrers, image: Digest, trusted: Collection[PublicKey], *, index: Descriptor | None = None
) -> Verified:
    """Find a statement on ``image`` by a trusted key and check it by the rules of ``edgepack.signing.rules``.

    With ``index``, ``image`` is the manifest of one platform and the statement is on the index, whose bytes are then
    needed. The key ids are those of every good statement. Raises ``SignatureError``, which says for each statement
    why it does not count; and, for the index, ``NotFoundError`` or ``VerificationError``.
    """
    if index is not None:
        verified = verify_image(source, index.digest, trusted)
        check_member(Index.from_bytes(read_verified(source, index), f"index {index.digest}"), index.digest, image)
        return verified
    found, refused = [], []
    for artifact in source.referrers(image, mediatypes.STATEMENT_ARTIFACT):
        try:
            found.append(_checked(source, artifact, image, trusted)[1])
        except (VerificationError, NotFoundError, InvalidDocumentError) as error:
            refused.append(error)
    if found:
        keys = {key for one in found for key in one.key_ids}
        covered = frozenset[Digest]().union(*(one.attachments for one in found))
        return Verified(tuple(sorted(keys)), found[0].statement, covered)
    if not refused:
        raise SignatureError("has no statement attached", where=f"image {image}", hint="sign the image")
    if len(refused) == 1 and isinstance(refused[0], SignatureError):
        raise refused[0]
    raise SignatureError(
        "no statement by a trusted key: " + "; ".join(str(error) for error in refused), where=f"image {image}"
    )
