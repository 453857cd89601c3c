"""What the callers of a service show, as a device is told: digests of two keys, or the key that verifies tokens.

Nobody can call a service with what is in here. The agent writes it to a file for the service, which only reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from edgepack.documents import Fields
from edgepack.errors import UsageError
from edgepack.signing.keys import PublicKey

# Where a service finds the file, whichever runtime it runs in.
AUTH_FOLDER = "/run/edgepack/auth"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST = 4096


@dataclass(frozen=True)
class KeyAuth:
    """One of two keys, by their digests."""

    primary: str
    secondary: str

    mode: ClassVar[str] = "key"
    file: ClassVar[str] = "keys.json"

    def to_json(self) -> dict[str, object]:
        """What callers show, as a document has it."""
        return {"mode": self.mode, "primary": self.primary, "secondary": self.secondary}

    def document(self) -> dict[str, object]:
        """The content of the file that the server of an image reads."""
        return {"schema": "edgepack.keys/v1", "primary": self.primary, "secondary": self.secondary}


@dataclass(frozen=True)
class TokenAuth:
    """A token for ``audience`` that the private half of ``public_key``, which is PEM, has signed."""

    public_key: str
    audience: str
    issuer: str | None = None

    mode: ClassVar[str] = "token"
    file: ClassVar[str] = "tokens.json"

    def to_json(self) -> dict[str, object]:
        """What callers show, as a document has it."""
        return {"mode": self.mode, **self._rules}

    def document(self) -> dict[str, object]:
        """The content of the file that the server of an image reads."""
        return {"schema": "edgepack.tokens/v1", "algorithm": "EdDSA", **self._rules}

    @property
    def _rules(self) -> dict[str, object]:
        issuer = {} if self.issuer is None else {"issuer": self.issuer}
        return {"public_key": self.public_key, "audience": self.audience, **issuer}


ServiceAuth = KeyAuth | TokenAuth


def read_auth(parent: Fields) -> ServiceAuth | None:
    """The field ``auth``; errors become violations of ``parent``, and none of them shows a value."""
    if parent.take("auth", dict) is None:
        return None
    fields = parent.child("auth")
    mode = fields.take("mode", str, required=True)
    found: ServiceAuth | None = None
    if mode == KeyAuth.mode:
        primary, secondary = (fields.parsed(name, _digest) for name in ("primary", "secondary"))
        found = KeyAuth(primary or "", secondary or "")
    elif mode == TokenAuth.mode:
        key, audience = fields.parsed("public_key", _public_key), fields.parsed("audience", _text)
        found = TokenAuth(key or "", audience or "", fields.parsed("issuer", _text, required=False))
    elif mode is not None:
        fields.wrong("mode", f"must be {KeyAuth.mode} or {TokenAuth.mode}")
        return None
    fields.finish()
    return found


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):  # not shown: it may be a key that somebody wrote in the wrong place
        raise UsageError("must be sha256: and 64 hexadecimal digits, the digest of a key")
    return text


def _public_key(text: str) -> str:
    return PublicKey.from_pem(text.encode(), "it").to_pem().decode("ascii")


def _text(text: str) -> str:
    if not 0 < len(text) <= _MOST:
        raise UsageError(f"must have 1 to {_MOST} characters")
    return text
