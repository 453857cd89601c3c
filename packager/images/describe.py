"""What is attached to an image that was built: its SBOM, its provenance, and the lock of its environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.store import Store
from packager.images.attachments import Attachment, of_kind
from packager.images.plan import LayerPlan
from packager.images.provenance import Request, provenance, provenance_attachment
from packager.images.sbom import read_contents, sbom, sbom_attachment
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
) -> tuple[Attachment, ...]:
    """What says of ``image``, built of ``plan``, what it is; ``records`` are of its models, by their ids."""
    contents = read_contents(store, image, len(plan.base.manifest.layers), cache)
    documents = [
        sbom_attachment(sbom(plan, image, contents, request.rules, records, cache)),
        provenance_attachment(provenance(plan, image, request, records, contents.code, bytecode)),
    ]
    if plan.lock:
        documents.append(of_kind(LOCK, mediatypes.LOCK_ARTIFACT, "text/plain", plan.lock.encode()))
    return tuple(documents)
