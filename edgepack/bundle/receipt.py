"""Receipts: what a device holds, so that a bundle for it brings only the rest (schema ``edgepack.receipt/v1``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import InvalidReferenceError
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store

SCHEMA = "edgepack.receipt/v1"
_WAY_OUT = "write one with: edge-agent receipt"
# A host may be called anything: "(none)" before its name is set, or what its owner's script can write.
_DEVICE = re.compile(r"\S{1,255}")


@dataclass(frozen=True)
class Receipt:
    """The blobs that ``device``, which runs images for ``platform``, holds."""

    device: str
    platform: Platform
    blobs: frozenset[Digest]

    @classmethod
    def of_store(cls, store: Store, device: str, platform: Platform) -> Receipt:
        """The receipt for everything in ``store``, which is read: a damaged blob is not listed."""
        return cls(device, platform, frozenset(digest for digest in store.digests() if store.is_sound(digest)))

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "receipt") -> Receipt:
        """Read a receipt; raises ``InvalidDocumentError`` with every violation."""
        violations: list[str] = []
        fields = Fields(parse_object(data, where, hint=_WAY_OUT), "", violations)
        fields.schema(SCHEMA)
        device = fields.take("device", str, required=True)
        if device is not None and not _DEVICE.fullmatch(device):
            fields.wrong("device", "must be a name without spaces")
        platform = fields.parsed("platform", Platform.parse) or Platform()
        blobs = fields.read_each("blobs", _digest)
        fields.finish()
        raise_all(where, violations, hint=_WAY_OUT)
        return cls(str(device), platform, frozenset(blobs))

    def to_bytes(self) -> bytes:
        """The canonical JSON of the receipt, digests sorted."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "device": self.device,
                "platform": str(self.platform),
                "blobs": [str(digest) for digest in sorted(self.blobs)],
            }
        )


def _digest(value: object, where: str) -> Digest:
    try:
        return Digest.parse(value)
    except InvalidReferenceError as error:
        raise InvalidReferenceError(error.what, where=where) from error
