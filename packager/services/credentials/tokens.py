"""Tokens of a service: JSON Web Tokens (RFC 7519) that its own key signs, so that a device verifies them offline."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edgepack.errors import UsageError
from edgepack.hidden import HiddenText
from edgepack.signing.keys import PrivateKey

ISSUER = "edgepack"
# Azure's: a token is valid for twelve hours, and a caller gets another one when half of that has passed.
SECONDS = 12 * 3600
MOST_SECONDS = 10 * 365 * 24 * 3600


@dataclass(frozen=True)
class Token:
    """A token, when it was made, from when on a caller should get another one, and when it expires; all in UTC."""

    text: HiddenText = field(repr=False)
    issued: datetime
    refresh_after: datetime
    expires: datetime


def make_token(key: PrivateKey, service: str, now: datetime, seconds: int = SECONDS) -> Token:
    """A token for ``service`` that is valid for ``seconds`` from ``now`` on; raises ``UsageError``."""
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(f"must be from 1 to {MOST_SECONDS}", where="seconds", hint="such as 3600 for an hour")
    issued = int(now.timestamp())
    claims = {"iss": ISSUER, "aud": service, "iat": issued, "exp": issued + seconds}
    signed = f"{_part({'alg': 'EdDSA', 'typ': 'JWT'})}.{_part(claims)}"
    signature = _encoded(key.secret.sign(signed.encode("ascii")))
    moments = (datetime.fromtimestamp(issued + after, UTC) for after in (0, seconds // 2, seconds))
    return Token(HiddenText(f"{signed}.{signature}"), *moments)


def _part(value: Mapping[str, object]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
