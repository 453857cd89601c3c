"""What edgepack attaches to the images that it builds, one document of each kind: SBOM, provenance, lock.

Attached to the image of one platform. A signature is attached to what a tag names, by ``edgepack.signing.statement``.
"""

from __future__ import annotations

from collections.abc import Collection

from edgepack.oci.attachments import Attachment, attach, attached, put
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.mediatypes import ATTACHMENT_KIND
from edgepack.oci.store import Store

__all__ = ["Attachment", "attach", "attach_built", "attached", "of_kind"]


def of_kind(kind: str, artifact_type: str, media_type: str, data: bytes) -> Attachment:
    """A document that a build attaches; a later build of the same image puts its own of that ``kind`` in its place."""
    return Attachment(artifact_type, media_type, data, {ATTACHMENT_KIND: kind})


def attach_built(store: Store, image: Descriptor, documents: Collection[Attachment]) -> tuple[Descriptor, ...]:
    """Attach what a build made to its image, in place of what an earlier build of it attached."""
    made = [put(store, image, document) for document in documents]
    kinds = {document.annotations.get(ATTACHMENT_KIND) for document in documents} - {None}
    store.add_referrers(image.digest, made, lambda known: known.annotations.get(ATTACHMENT_KIND) in kinds)
    return tuple(made)
