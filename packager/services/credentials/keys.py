"""The two keys of a service, so that one can be replaced while callers still use the other."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, cast

from edgepack.errors import UsageError
from edgepack.hidden import HiddenText

Which = Literal["primary", "secondary"]
WHICH: tuple[Which, ...] = ("primary", "secondary")
# 256 random bits: 43 characters that need no quoting anywhere.
_RANDOM_BYTES = 32
# What the server takes as a key (RFC 6750, section 2.1).
_KEY = re.compile(r"[A-Za-z0-9\-._~+/]{30,510}[A-Za-z0-9\-._~+/=]{2}")
KEY_RULE = "must have 32 to 512 letters, digits and - . _ ~ + / ="


@dataclass(frozen=True)
class ServiceKeys:
    """Both keys; what shows them shows no key."""

    primary: HiddenText = field(repr=False)
    secondary: HiddenText = field(repr=False)


def is_key(text: str) -> bool:
    """Whether a server takes ``text`` as a key."""
    return _KEY.fullmatch(text) is not None


def new_key() -> HiddenText:
    """A new key."""
    return HiddenText(secrets.token_urlsafe(_RANDOM_BYTES))


def given_key(text: str, where: object) -> HiddenText:
    """``text`` as a key that a user made; raises ``UsageError``, which does not show it."""
    if not is_key(text):
        raise UsageError(KEY_RULE, where=where, hint="leave it out, and one is made")
    return HiddenText(text)


def which_of(text: str, where: object) -> Which:
    """Which of the two keys ``text`` names, in any case; raises ``UsageError``."""
    if text.lower() not in WHICH:
        raise UsageError(f"{text[:80]!r} is not primary or secondary", where=where, hint="name one of the two keys")
    return cast(Which, text.lower())


def digest_of(key: str) -> str:
    """What a target is told of a key, by which it knows it and nobody can use it."""
    return f"sha256:{sha256(key.encode('ascii')).hexdigest()}"
