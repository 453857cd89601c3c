"""Receipts: what a device or a site holds, so that a bundle for it brings only the rest.

The schema is ``edgepack.receipt/v1``. A device signs its receipt with the key of its identity; a plain one is taken
too: what it says decides only what is left out, and a bundle that leaves out too much is refused where it arrives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import InvalidReferenceError
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.signing import envelope
from edgepack.signing.keys import PrivateKey

SCHEMA = "edgepack.receipt/v1"
PAYLOAD_TYPE = "application/vnd.edgepack.receipt.v1+json"
_WAY_OUT = "write one with: edge-agent receipt"
# A host may be called anything: "(none)" before its name is set, or what its owner's script can write.
_DEVICE = re.compile(r"\S{1,255}")


@dataclass(frozen=True)
class Receipt:
    """The blobs that ``device`` holds, which runs images for ``platform``; a site has devices of any, and so none.

    Of a device: the ``serial`` of the last desired state that it took, how much its disk has free, and its C library.
    """

    device: str
    platform: Platform | None
    blobs: frozenset[Digest]
    serial: int | None = None
    free_bytes: int | None = None
    glibc: str | None = None

    @classmethod
    def of_store(
        cls,
        store: Store,
        device: str,
        platform: Platform | None,
        *,
        serial: int | None = None,
        free_bytes: int | None = None,
        glibc: str | None = None,
    ) -> Receipt:
        """The receipt for everything in ``store``, which is read: a damaged blob is not listed."""
        sound = frozenset(digest for digest in store.digests() if store.is_sound(digest))
        return cls(device, platform, sound, serial, free_bytes, glibc)

    @classmethod
    def common(cls, receipts: Sequence[Receipt]) -> Receipt | None:
        """What all of ``receipts`` hold, as one; ``None`` for none. Without a platform when theirs differ."""
        if len(receipts) < 2:
            return receipts[0] if receipts else None
        platforms = {one.platform for one in receipts}
        return cls(
            ",".join(one.device for one in receipts),
            platforms.pop() if len(platforms) == 1 else None,
            frozenset.intersection(*(one.blobs for one in receipts)),
            free_bytes=min((one.free_bytes for one in receipts if one.free_bytes is not None), default=None),
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "receipt") -> Receipt:
        """Read a receipt, signed or plain; raises ``InvalidDocumentError`` with every violation.

        A signature is not verified; ``edgepack.signing.envelope.verify`` does, with ``PAYLOAD_TYPE``.
        """
        violations: list[str] = []
        value = parse_object(data, where, hint=_WAY_OUT)
        if value.keys() == _ENVELOPE:
            value = parse_object(envelope.unverified(data, PAYLOAD_TYPE, where=where), where, hint=_WAY_OUT)
        fields = Fields(value, "", violations)
        fields.schema(SCHEMA)
        device = fields.take("device", str, required=True)
        if device is not None and not _DEVICE.fullmatch(device):
            fields.wrong("device", "must be a name without spaces")
        platform = fields.parsed("platform", Platform.parse, required=False)
        blobs = fields.read_each("blobs", _digest)
        serial, free = fields.take("serial", int), fields.take("free_bytes", int)
        glibc = fields.take("glibc", str)
        fields.finish()
        raise_all(where, violations, hint=_WAY_OUT)
        return cls(str(device), platform, frozenset(blobs), serial, free, glibc)

    def to_bytes(self) -> bytes:
        """The canonical JSON of the receipt, digests sorted; what is not known is left out."""
        known = {"serial": self.serial, "free_bytes": self.free_bytes, "glibc": self.glibc}
        if self.platform is not None:
            known["platform"] = str(self.platform)
        return canonical_json(
            {
                "schema": SCHEMA,
                "device": self.device,
                "blobs": [str(digest) for digest in sorted(self.blobs)],
                **{name: value for name, value in known.items() if value is not None},
            }
        )

    def signed(self, key: PrivateKey) -> bytes:
        """The receipt in an envelope with a signature by ``key``."""
        return envelope.sign(self.to_bytes(), PAYLOAD_TYPE, key)


_ENVELOPE = frozenset({"payload", "payloadType", "signatures"})


def is_signed(data: bytes, where: object = "receipt") -> bool:
    """Whether the receipt is in an envelope, which may have a signature."""
    return parse_object(data, where, hint=_WAY_OUT).keys() == _ENVELOPE


def _digest(value: object, where: str) -> Digest:
    try:
        return Digest.parse(value)
    except InvalidReferenceError as error:
        raise InvalidReferenceError(error.what, where=where) from error
