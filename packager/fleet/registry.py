"""The devices of a workspace, and the last document that was signed for each of them and for each group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from datetime import UTC, datetime
from typing import Any

from edgepack.errors import EdgepackError, NotFoundError, UsageError
from edgepack.nearness import did_you_mean, listed
from edgepack.state.desired import MAX_SERIAL
from edgepack.state.identity import Identity
from packager.database.connection import Connection, Row
from packager.database.database import Database
from packager.database.tables import DEPLOYMENTS, DEVICES, LAST_VERSIONS
from packager.fleet.device import Device
from packager.fleet.reach import Reach

_KIND = "device"
_ADD = "add it with: edgepack device add NAME --identity FILE"
# Changes nothing of a row that is there, and locks it all the same (PostgreSQL, "Explicit Locking").
_LOCK = """INSERT INTO deployments (kind, name, serial) VALUES (?, ?, 0)
    ON CONFLICT (kind, name) DO UPDATE SET serial = deployments.serial RETURNING serial"""


class MaybeSentError(EdgepackError):
    """It is not known whether a document was sent, so that its serial must not be used again."""


@dataclass(frozen=True)
class Target:
    """Who a document is for: the ``device``, or the ``group``, called ``name``."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Deployment:
    """The last document that was signed for a target: its serial, when it was signed in UTC, and what it says."""

    target: Target
    serial: int
    signed: str
    document: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The deployment as the JSON interface shows it."""
        return {
            "target": self.target.kind, "name": self.target.name, "serial": self.serial, "signed": self.signed,
            "document": self.document,
        }  # fmt: skip


class DeviceRegistry:
    """The devices in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, identity: Identity, groups: tuple[str, ...] = (), *, replace: bool = False) -> Device:
        """Take a device in, or its groups and platform anew where it is known.

        Raises ``UsageError`` where another key has that name, unless that one is to be replaced.
        """
        with self._database.writing() as connection:
            row = _first(connection, identity.name)
            known = None if row is None else Device.of_row(row)
            if known is not None and known.key != identity.key and not replace:
                raise UsageError(
                    f"is known with another key ({known.key.id[:12]}…)", where=f"device {identity.name}",
                    hint="two devices must not have one name; if this one was set up anew, give --replace",
                )  # fmt: skip
            device = Device.of(identity, groups, _now() if known is None else known.added)
            device = replace_fields(device, reach=None if known is None else known.reach)
            if known is None:
                # With it the workspace has something in it, and says so without a look at the other tables.
                connection.insert(LAST_VERSIONS, [{"kind": _KIND, "name": device.name, "version": 0}], is_missing=True)
                connection.insert(DEVICES, [device.to_row()])
            else:
                connection.update(DEVICES, device.to_row(), {"name": device.name})
        return device

    def reach(self, name: str, reach: Reach) -> Device:
        """Record how the device ``name`` is reached; raises ``NotFoundError``."""
        with self._database.writing() as connection:
            device = replace_fields(_get(connection, name), reach=reach)
            connection.update(DEVICES, device.to_row(), {"name": name})
        return device

    def list(self, group: str | None = None) -> tuple[Device, ...]:
        """The devices by name, or those of a group."""
        with self._database.reading() as connection:
            found = [Device.of_row(row) for row in connection.select(DEVICES, "ORDER BY name")]
        return tuple(one for one in found if group is None or group in one.groups)

    def get(self, name: str) -> Device:
        """The device called ``name``; raises ``NotFoundError``."""
        with self._database.reading() as connection:
            return _get(connection, name)

    def of_group(self, group: str) -> tuple[Device, ...]:
        """The devices of ``group``; raises ``NotFoundError`` where no device is in it."""
        found = self.list(group)
        if not found:
            known = sorted({each for one in self.list() for each in one.groups})
            there = f"there are {listed(known)}" if known else "edgepack device add takes --group"
            raise NotFoundError(f"no device is in group {group!r}", hint=did_you_mean(group, known, there))
        return found

    def remove(self, name: str) -> Device:
        """Forget a device and return what was known of it; raises ``NotFoundError``.

        The serials of its documents go on where they were if it is added again.
        """
        with self._database.writing() as connection:
            found = _get(connection, name)
            connection.delete(DEVICES, {"name": name})
        return found

    def deployment(self, target: Target) -> Deployment | None:
        """The last document that was signed for ``target``."""
        with self._database.reading() as connection:
            rows = connection.select(DEPLOYMENTS, "WHERE kind = ? AND name = ?", target.kind, target.name)
        if not rows or rows[0]["document"] is None:
            return None
        return Deployment(target, int(rows[0]["serial"]), rows[0]["signed"], rows[0]["document"])

    def deploy(
        self,
        target: Target,
        write: Callable[[int], dict[str, Any]],
        serial: int | None = None,
        *,
        send: Callable[[Deployment], None] = lambda _: None,
    ) -> Deployment:
        """Record what ``write`` says for the next serial of ``target``, which nobody else gets, and ``send`` it.

        Of two at the same time the second is sent after the first, so that what is sent last has the greater serial.
        What ``send`` raises is raised: after a ``MaybeSentError`` the serial stays used, after anything else nothing
        has happened. With a ``serial`` that one is taken, and counted on from; raises ``UsageError`` when it is not
        above the last.
        """
        unknown: MaybeSentError | None = None
        with self._database.writing() as connection:
            last = int(connection.column(_LOCK, target.kind, target.name)[0])
            if serial is not None and serial <= last:
                raise UsageError(
                    f"is not above {last}, the last one", where=f"--serial {serial}",
                    hint="devices take no lower one; leave it out for the next",
                )  # fmt: skip
            found = Deployment(target, serial or last + 1, _now(), write(serial or last + 1))
            if found.serial > MAX_SERIAL:
                raise UsageError("has no serial left", where=str(target), hint="give the device another name")
            values = {"serial": found.serial, "signed": found.signed, "document": found.document}
            connection.update(DEPLOYMENTS, values, {"kind": target.kind, "name": target.name})
            try:
                send(found)
            except MaybeSentError as error:
                unknown = error
        if unknown is not None:
            raise unknown
        return found


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first(connection: Connection, name: str) -> Row | None:
    found = connection.select(DEVICES, "WHERE name = ?", name)
    return found[0] if found else None


def _get(connection: Connection, name: str) -> Device:
    row = _first(connection, name)
    if row is None:
        names = connection.column("SELECT name FROM devices ORDER BY name")
        hint = did_you_mean(name, names, f"there are {listed(names)}" if names else _ADD)
        raise NotFoundError(f"device {name!r} not found", where="device registry", hint=hint)
    return Device.of_row(row)
