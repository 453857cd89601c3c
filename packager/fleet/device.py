"""A device, as the workstation knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.oci.descriptor import Platform
from edgepack.signing.keys import PublicKey
from edgepack.state.identity import Identity
from packager.fleet.reach import Reach


@dataclass(frozen=True)
class Device:
    """A device: its name, its own key, what it runs on, its groups, when it was added (UTC), and how it is reached."""

    name: str
    key: PublicKey
    platform: Platform
    groups: tuple[str, ...]
    added: str
    reach: Reach | None = None

    @classmethod
    def of(cls, identity: Identity, groups: tuple[str, ...], added: str) -> Device:
        """The device with this identity, in the groups that it names and in ``groups``."""
        together = tuple(dict.fromkeys((*identity.groups, *groups)))
        return cls(identity.name, identity.key, identity.platform, together, added)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Device:
        """The device in a row of the table."""
        key = PublicKey.from_pem(row["public_key"].encode(), f"device {row['name']} in the database")
        return cls(
            row["name"], key, Platform.parse(row["platform"]), tuple(row["member_of"]), row["added"],
            None if row["reach"] is None else Reach.of_json(row["reach"]),
        )  # fmt: skip

    def to_row(self) -> dict[str, Any]:
        """The row of the table."""
        return {
            "name": self.name, "public_key": self.key.to_pem().decode(), "platform": str(self.platform),
            "member_of": list(self.groups), "added": self.added,
            "reach": None if self.reach is None else self.reach.to_json(),
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The device as the JSON interface shows it."""
        return {
            "name": self.name, "key_id": self.key.id, "platform": str(self.platform), "groups": list(self.groups),
            "added": self.added, "reach": None if self.reach is None else self.reach.to_json(),
        }  # fmt: skip
