"""DSSE envelopes (Dead Simple Signing Envelope, protocol 1.0): a payload, its type, and signatures over both.

What is signed is the pre-authentication encoding, so a payload of one type can never pass for another:
``DSSEv1 <len(type)> <type> <len(payload)> <payload>``.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.documents import Fields, canonical_json, parse_object
from edgepack.errors import InvalidDocumentError, SignatureError, UntrustedKeyError, UsageError
from edgepack.limits import LIMITS
from edgepack.signing.keys import PrivateKey, PublicKey

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope


@dataclass(frozen=True)
class Opened:
    """A payload and the ids of the trusted keys that signed it; no ids when it is unsigned."""

    payload: bytes
    key_ids: tuple[str, ...]


def sign(payload: bytes, payload_type: str, *keys: PrivateKey) -> bytes:
    """An envelope around ``payload`` with a signature by each of ``keys``; with none it is unsigned.

    Deterministic: equal arguments give equal bytes (RFC 8032: Ed25519 draws no randomness).
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # it has no __all__

    envelope = Envelope(payload, payload_type, {})
    for key in sorted(keys, key=lambda key: key.id):
        named = SSlibKey.from_crypto(key.secret.public_key(), keyid=key.id)
        envelope.sign(CryptoSigner(key.secret, named))
    return canonical_json(envelope.to_dict())


def verify(
    data: bytes,
    payload_type: str,
    trusted: Collection[PublicKey],
    *,
    threshold: int = 1,
    where: object = "envelope",
    limit: int = LIMITS.envelope_bytes,
) -> Opened:
    """The payload of envelope ``data``, signed by at least ``threshold`` of the ``trusted`` keys.

    Raises ``SignatureError`` when the envelope is malformed or longer than ``limit`` bytes, has no signature, has none
    by a trusted key (the message names the ids it has), has one that does not verify, has too few, or holds another
    type of payload.
    """
    if threshold < 1:
        raise ValueError("a threshold below one trusts anybody")
    envelope = _parse(data, where, limit)
    if not envelope.signatures:
        raise SignatureError("is not signed", where=where, hint="sign it with a key that is trusted here")
    known = {key.id: key for key in trusted}
    if not known.keys() & envelope.signatures.keys():
        raise UntrustedKeyError(
            f"is signed by {', '.join(sorted(envelope.signatures))}, and no such key is trusted here",
            where=where,
            hint="trust that key if you know its owner",
        )
    good: list[str] = []
    bad: list[str] = []
    for key_id in sorted(known.keys() & envelope.signatures.keys()):
        (good if _signed_by(envelope, known[key_id]) else bad).append(key_id)
    if bad and len(good) < threshold:
        raise SignatureError(
            f"the signature by key {', '.join(bad)} is not valid for this content", where=where, hint="fetch it again"
        )
    if len(good) < threshold:
        raise SignatureError(f"is signed by {len(good)} trusted keys; {threshold} are required", where=where)
    _check_type(envelope, payload_type, where)
    return Opened(envelope.payload, tuple(good))


def open_unsigned(
    data: bytes, payload_type: str, *, where: object = "envelope", limit: int = LIMITS.envelope_bytes
) -> Opened | None:
    """The payload of an envelope that has no signature at all; ``None`` when it has one, which is then to be verified.

    Raises ``SignatureError`` when the envelope is malformed, longer than ``limit`` bytes, or of another type.
    """
    envelope = _parse(data, where, limit)
    if envelope.signatures:
        return None
    _check_type(envelope, payload_type, where)
    return Opened(envelope.payload, ())


def unverified(
    data: bytes, payload_type: str, *, where: object = "envelope", limit: int = LIMITS.envelope_bytes
) -> bytes:
    """The payload of an envelope, whoever signed it; for what is only read, and decides nothing.

    Raises ``SignatureError`` when the envelope is malformed, longer than ``limit`` bytes, or of another type.
    """
    envelope = _parse(data, where, limit)
    _check_type(envelope, payload_type, where)
    return envelope.payload


def _check_type(envelope: Envelope, payload_type: str, where: object) -> None:
    if envelope.payload_type != payload_type:
        raise SignatureError(f"has the payload type {envelope.payload_type!r}, not {payload_type!r}", where=where)


def _signed_by(envelope: Envelope, key: PublicKey) -> bool:
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    verifier = SSlibKey.from_crypto(load_der_public_key(key.der), keyid=key.id)
    try:
        verifier.verify_signature(envelope.signatures[key.id], envelope.pae())
    except UnverifiedSignatureError:
        return False
    return True


def _base64(text: str) -> str:
    """``text`` when it is base64 as RFC 4648 has it in section 4: its alphabet, padded, nothing else."""
    try:
        if base64.b64encode(base64.b64decode(text, validate=True)).decode() == text:
            return text
    except ValueError:
        pass
    raise UsageError("is not standard base64 (RFC 4648, section 4)")


def _parse(data: bytes, where: object, limit: int) -> Envelope:
    from securesystemslib.dsse import Envelope

    if len(data) > limit:
        raise SignatureError(f"is longer than an envelope's {limit} bytes", where=where)
    try:
        value = parse_object(data, where)
    except InvalidDocumentError as error:
        raise SignatureError(f"is not a DSSE envelope ({error.what})", where=where) from error
    violations: list[str] = []
    fields = Fields(value, "", violations)
    # The same signature in another spelling would be another document: one may be blocked, noted or compared by hash.
    fields.parsed("payload", _base64)
    fields.take("payloadType", str, required=True)
    for one in fields.each("signatures"):
        one.take("keyid", str, required=True)
        one.parsed("sig", _base64)
        one.finish()
    fields.finish()
    if violations:
        raise SignatureError(f"is not a DSSE envelope ({'; '.join(violations)})", where=where)
    try:
        return Envelope.from_dict(value)
    except ValueError as error:  # invalid base64, or two signatures under one key id
        raise SignatureError(f"is not a DSSE envelope ({error})", where=where) from error
