"""What is attached to an image that was built: its SBOM, its provenance, and the lock of its environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.store import Store
from packager.images.attachments import attach_built, of_kind
from packager.images.plan import LayerPlan
from packager.images.provenance import Request, provenance, provenance_attachment
from packager.images.sbom import read_contents, sbom, sbom_attachment
from packager.layers.secrets import SecretSearch
from packager.models.model import Model

LOCK = "lock"


def describe(
    store: Store,
    plan: LayerPlan,
    image: Descriptor,
    request: Request,
    records: Mapping[str, Model],
    *,
    bytecode: str | None,
    cache: Path,
    search: SecretSearch,
) -> tuple[Descriptor, ...]:
    """Attach to ``image``, built of ``plan``, what says of what; in place of what an earlier build attached.

    ``records`` are of its models, by their ids. Raises ``EdgepackError`` for a credential in a document.
    """
    contents = read_contents(store, image, len(plan.base.manifest.layers), cache)
    documents = [
        sbom_attachment(sbom(plan, image, contents, request.rules, records, cache)),
        provenance_attachment(provenance(plan, image, request, records, contents.code, bytecode)),
    ]
    if plan.lock:
        documents.append(of_kind(LOCK, mediatypes.LOCK_ARTIFACT, "text/plain", plan.lock.encode()))
    for document in documents:
        search.check([document.data], document.annotations[mediatypes.ATTACHMENT_KIND])
    return attach_built(store, image, documents)
