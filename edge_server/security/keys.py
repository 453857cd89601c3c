"""Two keys, so that one can be replaced while clients still use the other.

The file has only SHA-256 digests. A plain hash is enough for keys of 256 random bits: that space cannot be searched, so
a slow, salted hash, as for passwords, would only add time to each request. For the same reason short keys are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from edge_server.config.fields import Fields, read_document
from edge_server.errors import ConfigurationError
from edge_server.security.refusals import invalid

SCHEMA = "edgepack.keys/v1"
NAMES = ("primary", "secondary")

_RANDOM_BYTES = 32
# For keys made elsewhere: 32 random characters of base64 are 192 bits.
_SHORTEST = 32
_LONGEST = 512
# The characters of a bearer token: RFC 6750, section 2.1.
_WRITTEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Keys:
    """The digests of both keys, and the file that they came from."""

    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)
    file: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.file,)

    def check(self, credential: bytes, now: float) -> None:
        """Raise BadRequest (401) when this is neither of the two keys; ``now`` does not matter for keys."""
        digest = sha256(credential).digest()
        # Always both, and all bytes of each, so that the time reveals nothing.
        first = compare_digest(digest, self.primary)
        if not (compare_digest(digest, self.secondary) | first):
            raise invalid("the key is not one of this service")


def read_keys(path: Path) -> Keys:
    """Read keys.json; MissingFileError when it is not there, ConfigurationError when it breaks its rules."""
    fields = read_document(path, "keys file", SCHEMA)
    primary, secondary = (_digest(fields, name) for name in NAMES)
    fields.reject_unknown()
    fields.finish()
    return Keys(primary, secondary, path)


def new_key() -> str:
    """Make a key of 256 random bits: 43 characters that need no quoting anywhere."""
    import secrets  # imported here: a server makes no keys

    return secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(key: str) -> str:
    """Return how keys.json writes a key; ConfigurationError when it is too short or cannot be sent in a header."""
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ConfigurationError("the key", [f"must have {_SHORTEST} to {_LONGEST} characters, not {len(key)}"])
    if not _WRITTEN.fullmatch(key):
        raise ConfigurationError("the key", ["may have only the letters A-Z and a-z, digits, and - . _ ~ + / ="])
    return "sha256:" + sha256(key.encode("ascii")).hexdigest()


def document(primary: str, secondary: str) -> dict[str, str]:
    """The content of keys.json for two digests from ``digest_of``."""
    return {"schema": SCHEMA, "primary": primary, "secondary": secondary}


def _digest(fields: Fields, name: str) -> bytes:
    text = fields.take(name, str, "")
    found = _DIGEST.fullmatch(text)
    if found is None:
        if text:  # not shown: it may be a key that somebody wrote in the wrong place
            fields.add_violation(name, "must be sha256: and 64 hexadecimal digits")
        return b""
    return bytes.fromhex(found[1])
