"""JSON Web Tokens in compact form (RFC 7515, RFC 7519): parsed and made."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

# A token of a dozen claims with an Ed25519 signature has some 500 characters.
LONGEST = 4096

_COMPACT = re.compile(rb"([A-Za-z0-9\-_]+)\.([A-Za-z0-9\-_]+)\.([A-Za-z0-9\-_]+)")


@dataclass(frozen=True)
class Token:
    """A token's parts, not verified. ``signed`` are the bytes that the signature covers."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def parse(text: bytes) -> Token:
    """Parse a token; ValueError when it is not one. Of a name that its JSON has twice, the last value counts, here and
    in every later check.
    """
    if len(text) > LONGEST:
        raise ValueError("the token is too long")
    parts = _COMPACT.fullmatch(text)
    if parts is None:
        raise ValueError("the token is not three parts of base64url with a dot between")
    header, claims = _document(parts[1]), _document(parts[2])
    return Token(header, claims, text[: parts.end(2)], _decode(parts[3]))


def make(algorithm: str, claims: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Make a token; ``sign`` returns the signature over its bytes."""
    header = {"alg": algorithm, "typ": "JWT"}
    signed = _encode(orjson.dumps(header)) + b"." + _encode(orjson.dumps(claims))
    return (signed + b"." + _encode(sign(signed))).decode("ascii")


def _document(part: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(_decode(part))
    except orjson.JSONDecodeError:
        raise ValueError("the token's header or claims are not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("the token's header or claims are not an object")
    return found


def _decode(part: bytes) -> bytes:
    found = urlsafe_b64decode(part + b"=" * (-len(part) % 4)) if len(part) % 4 != 1 else b""
    # The decoder accepts several encodings of the last bits; a token has one.
    if _encode(found) != part:
        raise ValueError("the token is not written in base64url as it should be")
    return found


def _encode(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")
