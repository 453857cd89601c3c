"""What is attached to an image: artifacts whose ``subject`` it is (image-spec 1.1, manifest.md, "subject").

Each is an image manifest of its own, with the empty configuration and one layer, the document ("Guidelines for Artifact
Usage"). An image is whole without them, so that attaching one does not change its digest.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, runtime_checkable

from edgepack.documents import parse_foreign
from edgepack.errors import InvalidDocumentError, NotFoundError, RegistryError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.copy import CopyReport, copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.fields import text_field, text_map
from edgepack.oci.graph import children, visit
from edgepack.oci.manifest import Manifest
from edgepack.oci.sources import BlobSource, read_verified
from edgepack.oci.store import Store

_log = logging.getLogger(__name__)


@runtime_checkable
class HasReferrers(Protocol):
    """A source that also has artifacts attached to images: a store, a registry, a bundle being read."""

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``."""

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of a blob."""


@dataclass(frozen=True)
class Attachment:
    """A document that is attached to an image; ``annotations`` are those of its manifest."""

    artifact_type: str
    media_type: str
    data: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)


def attach(store: Store, image: Descriptor, attachment: Attachment) -> Descriptor:
    """Attach one document to ``image`` in ``store``; returns the artifact's descriptor. May be repeated."""
    found = put(store, image, attachment)
    store.add_referrers(image.digest, [found])
    return found


def put(store: Store, image: Descriptor, attachment: Attachment) -> Descriptor:
    """Put the artifact into ``store``, which does not list it yet; for several that are listed by one change."""
    manifest = Manifest(
        config=store.put_bytes(b"{}", mediatypes.EMPTY),
        layers=(store.put_bytes(attachment.data, attachment.media_type),),
        subject=Descriptor(image.media_type, image.digest, image.size),
        artifact_type=attachment.artifact_type,
        annotations=attachment.annotations,
    )
    held = store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
    return Descriptor(held.media_type, held.digest, held.size, attachment.annotations, None, attachment.artifact_type)


def attached(source: HasReferrers, image: Digest, artifact_type: str) -> tuple[Attachment, ...]:
    """The documents of one type that are attached to ``image`` at ``source``.

    What the source lists and does not have, or what is attached to another image by itself, is passed over with a line
    in the log. Raises ``VerificationError`` for altered bytes, and what the source raises.
    """
    found = []
    for artifact in source.referrers(image, artifact_type):
        try:
            found.append(read(source, image, artifact))
        except (NotFoundError, InvalidDocumentError) as error:
            _log.warning("going on without %s, which is listed as attached to %s: %s", artifact.digest, image, error)
    return tuple(found)


def read(source: BlobSource, image: Digest, artifact: Descriptor) -> Attachment:
    """The document that ``artifact`` attaches to ``image``.

    Raises ``InvalidDocumentError`` for what is not attached to it or is not one document, ``NotFoundError``,
    ``VerificationError``.
    """
    where = f"artifact {artifact.digest}"
    manifest = Manifest.from_bytes(read_verified(source, artifact), where)
    if manifest.subject is None or manifest.subject.digest != image:
        raise InvalidDocumentError(where, [f"is not attached to {image}"])
    if len(manifest.layers) != 1:
        raise InvalidDocumentError(where, [f"holds {len(manifest.layers)} documents, not one"])
    layer = manifest.layers[0]
    data = read_verified(source, layer, LIMITS.attachment_bytes)
    return Attachment(kind_of(manifest), layer.media_type, data, manifest.annotations)


def kind_of(manifest: Manifest) -> str:
    """The type by which a registry lists an artifact (distribution-spec 1.1, "Listing Referrers")."""
    return manifest.artifact_type or manifest.config.media_type


def subject_of(data: bytes, where: object) -> Digest | None:
    """The image that a manifest or index, whose bytes are ``data``, is attached to; raises ``InvalidDocumentError``."""
    subject = parse_foreign(data, where).get("subject")
    return None if subject is None else Descriptor.from_json(subject, f"{where}: subject").digest


def as_referrer(data: bytes, descriptor: Descriptor) -> Descriptor:
    """An artifact, whose bytes are ``data``, as a list of referrers names it: with its own type and annotations."""
    where = f"manifest {descriptor.digest}"
    value = parse_foreign(data, where)
    config = value.get("config")
    kind = text_field(value, "artifactType", where)
    if not kind and isinstance(config, dict):
        kind = text_field(config, "mediaType", where)
    notes = text_map(value.get("annotations"), where, "annotations")
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, dict(notes), None, kind or None)


def subjects(source: BlobSource, root: Descriptor) -> tuple[Descriptor, ...]:
    """What of ``root`` something may be attached to: itself and, of an index, each image that it lists.

    What builders list for no platform is left out: that is how they attach something themselves.
    """

    def below(item: Descriptor) -> tuple[Descriptor, ...]:
        try:
            listed = children(source, item) if item.media_type in mediatypes.INDEXES else ()
        except NotFoundError:
            return ()
        return tuple(one for one in listed if one.platform is None or one.platform.os != "unknown")

    return tuple(item for item, finished in visit(root, below) if not finished)


def copy_attachments(source: HasReferrers, sink: Store, root: Descriptor) -> CopyReport:
    """Bring what is attached to ``root`` and its images, which ``sink`` has by now, from ``source`` to it.

    An image is usable without what the source lists and does not give, or lists falsely: that is said in the log.
    """
    moved = CopyReport(0, 0, 0)
    for image in subjects(sink, root):
        taken = []
        for artifact in _most_wanted(image, source.referrers(image.digest)):
            try:
                data = read_verified(source, artifact)
                if subject_of(data, f"artifact {artifact.digest}") != image.digest:
                    raise InvalidDocumentError(f"artifact {artifact.digest}", ["says itself that it is not"])
                report = copy(source, sink, artifact)
                taken.append(as_referrer(data, artifact))
                moved = moved + report
            except (NotFoundError, RegistryError, VerificationError, InvalidDocumentError) as error:
                _log.warning("going on without %s, which is attached to %s: %s", artifact.digest, image.digest, error)
        if taken:
            sink.add_referrers(image.digest, taken)
    return moved


def _most_wanted(image: Descriptor, listed: Sequence[Descriptor]) -> Collection[Descriptor]:
    """Of more than are taken, signatures and our own first: whoever may push can attach thousands."""
    if len(listed) <= LIMITS.referrers:
        return listed
    ranked = sorted(listed, key=_rank)
    _log.warning(
        "%s has %d artifacts attached; %d are taken, signatures and edgepack's own first",
        image.digest, len(listed), LIMITS.referrers,
    )  # fmt: skip
    return ranked[: LIMITS.referrers]


def _rank(artifact: Descriptor) -> tuple[int, Digest]:
    if artifact.artifact_type == mediatypes.STATEMENT_ARTIFACT:
        return 0, artifact.digest
    return (1 if mediatypes.ATTACHMENT_KIND in artifact.annotations else 2), artifact.digest
