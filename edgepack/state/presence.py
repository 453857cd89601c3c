"""Whether a device is there: the retained document on its topic ``status``, which the broker writes when it is lost.

The last will of a connection has the numbers of its birth. A broker may deliver it late, after the device has come
back: a death counts for its own birth alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edgepack.documents import Fields, canonical_json, parse_object, raise_all

SCHEMA = "edgepack.status/v1"


class Presence(StrEnum):
    """``OFFLINE`` said goodbye; ``LOST`` is the broker's word for a device that it no longer hears."""

    ONLINE = "online"
    OFFLINE = "offline"
    LOST = "lost"


@dataclass(frozen=True)
class DeviceStatus:
    """What a device, or its last will, says.

    ``session`` counts its agent's starts, ``connection`` those within one. ``instance`` is drawn at each start: it
    tells two devices apart that were given one name.
    """

    device: str
    presence: Presence
    session: int
    connection: int
    instance: str
    version: str

    def to_bytes(self) -> bytes:
        """The canonical document."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "device": self.device,
                "state": self.presence.value,
                "session": self.session,
                "connection": self.connection,
                "instance": self.instance,
                "version": self.version,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "device status") -> DeviceStatus:
        """Read a document; raises ``InvalidDocumentError`` naming every wrong field."""
        violations: list[str] = []
        fields = Fields(parse_object(data, where), "", violations)
        fields.schema(SCHEMA)
        device, state = fields.take("device", str, required=True), fields.take("state", str, required=True)
        if state is not None and state not in list(Presence):
            fields.wrong("state", f"must be {', '.join(Presence)}")
        session = fields.take("session", int, required=True)
        connection = fields.take("connection", int, required=True)
        instance, version = fields.take("instance", str, required=True), fields.take("version", str, required=True)
        fields.finish()
        raise_all(where, violations)
        return cls(device or "", Presence(state or ""), session or 0, connection or 0, instance or "", version or "")

    def after(self, newest: DeviceStatus | None) -> DeviceStatus | None:
        """What is known when this arrives after ``newest``: a death of another birth changes nothing."""
        if newest is None or self.presence is Presence.ONLINE:
            return self
        return self if self._birth == newest._birth else newest

    @property
    def _birth(self) -> tuple[str, int, int]:
        return self.instance, self.session, self.connection
