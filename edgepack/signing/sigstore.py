"""Statements as Sigstore's tools take them: the same envelope, in a form that ``cosign`` finds and verifies by a key.

Version 3 of cosign looks for an artifact attached to the image, a Sigstore bundle 0.3 (protobuf-specs,
``sigstore_bundle.proto``, in protobuf's JSON). Versions 1 and 2 look for the tag ``sha256-….att`` and ask a server of
Sigstore's for keys where they are given a bundle.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgepack.documents import canonical_json, parse_object
from edgepack.oci import mediatypes
from edgepack.oci.attachments import Attachment, attach
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.signing.rules import PREDICATE_TYPE

# cosign, specs/BUNDLE_SPEC.md and specs/ATTESTATION_SPEC.md
_CONTENT = "dev.sigstore.bundle.content"
_PREDICATE = "dev.sigstore.bundle.predicateType"
_OLD_PREDICATE = "predicateType"
_OLD_SIGNATURE = "dev.cosignproject.cosign/signature"


def bundle(envelope: bytes) -> bytes:
    """The Sigstore bundle around ``envelope``, which has one signature, for whoever has the public key."""
    value = parse_object(envelope, "envelope")
    (signature,) = value["signatures"]
    return canonical_json(
        {
            "mediaType": mediatypes.SIGSTORE,
            # No certificate and no time: the key is the one that the reader trusts.
            "verificationMaterial": {"publicKey": {"hint": signature["keyid"]}},
            # cosign computes ids of keys in another way, and passes over a signature whose id is not that.
            "dsseEnvelope": {**value, "signatures": [{"sig": signature["sig"]}]},
        }
    )


def attach_bundle(store: Store, image: Descriptor, envelope: bytes) -> Descriptor:
    """Attach the bundle around ``envelope``, a statement on ``image``, in ``store``; the same again changes nothing."""
    notes = {_CONTENT: "dsse-envelope", _PREDICATE: PREDICATE_TYPE}
    return attach(store, image, Attachment(mediatypes.SIGSTORE, mediatypes.SIGSTORE, bundle(envelope), notes))


def attestations_tag(image: Digest) -> str:
    """The tag that versions 1 and 2 of cosign look for."""
    return f"sha256-{image.hex}.att"


def put_attestations(store: Store, envelope: bytes, others: Iterable[Descriptor] = ()) -> Descriptor:
    """Put what ``attestations_tag`` is to name into ``store``: ``envelope``, after ``others``, which are there."""
    layer = store.put_bytes(envelope, mediatypes.DSSE)
    notes = {_OLD_PREDICATE: PREDICATE_TYPE, _OLD_SIGNATURE: ""}
    layers = [*(one for one in others if one.digest != layer.digest), layer.with_annotations(notes)]
    config = {
        "architecture": "", "os": "", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(one.digest) for one in layers]},
    }  # fmt: skip
    manifest = Manifest(config=store.put_bytes(canonical_json(config), mediatypes.CONFIG), layers=tuple(layers))
    return store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
