"""The identity of a device: what it is called and its public key, in a file that it has signed itself.

The signature says that who wrote the file has the key; that the file is that device's, the person who carries it says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import InvalidDocumentError, SignatureError
from edgepack.limits import LIMITS
from edgepack.names import check_device_name, check_group_name
from edgepack.oci.descriptor import Platform
from edgepack.signing.envelope import open_unsigned, sign, verify
from edgepack.signing.keys import PrivateKey, PublicKey

SCHEMA = "edgepack.identity/v1"
PAYLOAD_TYPE = "application/vnd.edgepack.identity.v1+json"
_NO_PLATFORM = Platform("", "")


@dataclass(frozen=True)
class Identity:
    """A device: its name, its Ed25519 key, what it runs on, and the groups that its configuration names."""

    name: str
    key: PublicKey
    platform: Platform
    groups: tuple[str, ...] = ()

    def signed(self, private: PrivateKey) -> bytes:
        """The file: an envelope with the device's own signature."""
        return sign(canonical_json(self.to_json()), PAYLOAD_TYPE, private)

    def to_json(self) -> dict[str, object]:
        """The device as the file's payload has it."""
        return {
            "schema": SCHEMA, "name": self.name, "public_key": self.key.to_pem().decode(),
            "platform": str(self.platform), "groups": list(self.groups),
        }  # fmt: skip

    @classmethod
    def from_signed(cls, data: bytes, where: object = "identity") -> Identity:
        """The identity in a file; raises ``SignatureError`` unless the key that it names has signed it.

        Raises ``InvalidDocumentError`` for one whose fields are wrong.
        """
        try:
            unsigned = open_unsigned(data, PAYLOAD_TYPE, where=where, limit=LIMITS.identity_bytes)
        except SignatureError as error:
            hint = "give the identity.json that edge-agent init wrote on the device"
            raise SignatureError(error.what, where=where, hint=hint) from error
        if unsigned is not None:
            raise SignatureError("is not signed", where=where, hint="write it again on the device: edge-agent init")
        found = cls._parsed(_payload(data, where), where)
        verify(data, PAYLOAD_TYPE, [found.key], where=where, limit=LIMITS.identity_bytes)
        return found

    @classmethod
    def _parsed(cls, payload: bytes, where: object) -> Identity:
        violations: list[str] = []
        fields = Fields(parse_object(payload, where), "", violations)
        fields.schema(SCHEMA)
        name = fields.parsed("name", check_device_name) or ""
        key = fields.parsed("public_key", lambda text: PublicKey.from_pem(text.encode()))
        platform = fields.parsed("platform", Platform.parse) or _NO_PLATFORM
        groups = fields.read_each("groups", _group)
        fields.finish()
        raise_all(where, violations)
        if key is None:
            raise InvalidDocumentError(where, ["public_key is missing"])
        return cls(name, key, platform, groups)


def _group(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidDocumentError(path, ["must be text"])
    return check_group_name(value)


def _payload(data: bytes, where: object) -> bytes:
    """What an envelope holds, which nobody has verified yet: the key to do so with is in it."""
    import base64

    value = json.loads(data)  # well formed: it was parsed as an envelope before
    try:
        return base64.b64decode(str(value["payload"]), validate=True)
    except ValueError as error:
        raise SignatureError("is not a DSSE envelope", where=where) from error
