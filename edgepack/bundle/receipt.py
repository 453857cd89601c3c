"""Receipts: what a device holds, so that a bundle for it brings only the rest (schema ``edgepack.receipt/v1``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepack.documents import canonical_json, parse_object
from edgepack.errors import InvalidDocumentError, InvalidReferenceError
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store

SCHEMA = "edgepack.receipt/v1"
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HEX = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True)
class Receipt:
    """The blobs that ``device``, which runs images for ``platform``, holds."""

    device: str
    platform: Platform
    blobs: frozenset[Digest]

    @classmethod
    def of_store(cls, store: Store, device: str, platform: Platform) -> Receipt:
        """The receipt for everything in ``store``."""
        names = (path.name for path in (store.root / "blobs" / "sha256").iterdir())
        return cls(device, platform, frozenset(Digest(name) for name in names if _HEX.fullmatch(name)))

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "receipt") -> Receipt:
        """Read a receipt; raises ``InvalidDocumentError`` with every violation."""
        value = parse_object(data, where)
        wrong = []
        if value.get("schema") != SCHEMA:
            wrong.append(f"schema must be {SCHEMA!r}")
        device = value.get("device")
        if not isinstance(device, str) or not _DEVICE.fullmatch(device):
            wrong.append("device must be a name of letters, digits, '.', '_' and '-'")
        platform = Platform()
        try:
            platform = Platform.parse(str(value.get("platform", "")))
        except InvalidReferenceError as error:
            wrong.append(f"platform: {error}")
        blobs = value.get("blobs")
        held = set()
        if not isinstance(blobs, list):
            wrong.append("blobs must be a list of digests")
        for number, item in enumerate(blobs if isinstance(blobs, list) else ()):
            try:
                held.add(Digest.parse(item))
            except InvalidReferenceError as error:
                wrong.append(f"blobs[{number}]: {error}")
        if wrong:
            raise InvalidDocumentError(where, wrong)
        return cls(str(device), platform, frozenset(held))

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
