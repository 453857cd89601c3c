"""tokens.json: which tokens a service accepts."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from edge_server.config.fields import Fields, read_document
from edge_server.config.watched import warn_if_open
from edge_server.errors import ConfigurationError, MissingFileError
from edge_server.security.ed25519 import PublicKey

SCHEMA = "edgepack.tokens/v1"
LEEWAY_SECONDS = 60.0

_LARGEST_LEEWAY = 86400.0
# RFC 7518, section 3.2: a key for HS256 has at least as many bits as the hash.
_SHORTEST_SECRET = 32
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*")
# RFC 8410, section 4: the bytes before the 32 of an Ed25519 key in a SubjectPublicKeyInfo.
_SPKI = bytes.fromhex("302a300506032b6570032100")
_URLSAFE = str.maketrans("-_", "+/")

# Whether a signature (first argument) is valid over some bytes (second).
Verify = Callable[[bytes, bytes], bool]


@dataclass(frozen=True)
class TokenRules:
    """What a token must fulfil to be valid for this service.

    ``algorithm`` is ``HS256`` or ``EdDSA``, the only one that is accepted. Without an ``issuer`` the claim is not
    checked. ``leeway`` is how many seconds the clocks of issuer and device may differ. ``slow`` says that verifying
    takes about a millisecond of plain Python. ``secret`` is HS256's, empty otherwise.
    """

    algorithm: str
    audience: str
    issuer: str | None
    leeway: float
    verify: Verify = field(repr=False)
    slow: bool
    files: tuple[Path, ...]
    secret: bytes = field(default=b"", repr=False)


def read_rules(path: Path) -> TokenRules:
    """Read tokens.json and the secret that it names (relative to it).

    Raises MissingFileError when one of them is not there, ConfigurationError when they break their rules.
    """
    fields = read_document(path, "tokens file", SCHEMA)
    algorithm = _text(fields, "algorithm")
    audience = _text(fields, "audience")
    issuer = fields.take("issuer", str, "", required=False) or None
    leeway = fields.take("leeway_seconds", float, LEEWAY_SECONDS, required=False)
    if not 0 <= leeway <= _LARGEST_LEEWAY:
        fields.add_violation("leeway_seconds", f"must be 0 to {_LARGEST_LEEWAY:.0f}, not {leeway}")
    name, key = "", b""
    if algorithm == "HS256":
        name = _text(fields, "secret_file")
    elif algorithm == "EdDSA":
        key = _public_key(fields)
    elif algorithm:
        fields.add_violation("algorithm", f"must be HS256 or EdDSA, not {algorithm!r:.60}")
    fields.reject_unknown()
    # From here on nothing is empty: with an empty secret, everybody could make tokens.
    fields.finish()
    if key:
        library = _library_verify(key)
        verify = library or PublicKey(key).verify
        return TokenRules(algorithm, audience, issuer, leeway, verify, library is None, (path,))
    file = path.parent / name
    secret = read_secret(file)
    return TokenRules(algorithm, audience, issuer, leeway, _hs256(secret), False, (path, file), secret)


def read_secret(path: Path) -> bytes:
    """Read a secret for HS256: all bytes of the file, without a final line end.

    Raises MissingFileError, or ConfigurationError when it cannot be read or is shorter than 32 bytes; logs a warning
    when every user may read it.
    """
    try:
        secret = path.read_bytes().rstrip(b"\r\n")
    # ValueError: a name with a zero byte.
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        raise MissingFileError(f"there is no secret file at {path}; make one with: token secret FILE") from None
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read ({error.strerror})"]) from None
    if len(secret) < _SHORTEST_SECRET:
        raise ConfigurationError(str(path), [f"has {len(secret)} bytes; a secret needs at least {_SHORTEST_SECRET}"])
    warn_if_open(path, "secret file")
    return secret


def hs256(secret: bytes, signed: bytes) -> bytes:
    """The HS256 signature over some bytes."""
    return hmac.digest(secret, signed, sha256)


def _hs256(secret: bytes) -> Verify:
    return lambda signature, signed: hmac.compare_digest(hs256(secret, signed), signature)


def _text(fields: Fields, name: str) -> str:
    text = fields.take(name, str, "")
    if fields.values.get(name) == "":
        fields.add_violation(name, "must not be empty")
    return text


def _public_key(fields: Fields) -> bytes:
    """The 32 bytes of an Ed25519 key given as PEM, or as base64 of its bytes or DER; empty when it is not one."""
    text = _text(fields, "public_key")
    if not text:
        return b""
    pem = _PEM.fullmatch(text)
    written = "".join((pem[1] if pem else text).split()).translate(_URLSAFE)
    try:
        content = b64decode(written + "=" * (-len(written) % 4), validate=True)
    except ValueError:
        content = b""
    if len(content) != 32 and (len(content) != 44 or not content.startswith(_SPKI)):
        fields.add_violation("public_key", "must be an Ed25519 public key: PEM, or base64 of its 32 bytes")
        return b""
    try:
        PublicKey(content[-32:])
    except ValueError as error:
        fields.add_violation("public_key", f"is not a usable Ed25519 key: {error}")
        return b""
    return content[-32:]


def _library_verify(key: bytes) -> Verify | None:
    """OpenSSL's verification, ten times as fast, where ``cryptography`` is installed."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return None
    public = Ed25519PublicKey.from_public_bytes(key)

    def verify(signature: bytes, signed: bytes) -> bool:
        try:
            public.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return verify
