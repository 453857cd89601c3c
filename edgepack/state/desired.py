"""Desired state: which services a device is to run, each image by its digest.

A service that a document does not name is left as it is: an empty document never means "remove everything".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Literal, cast

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import UsageError
from edgepack.limits import LIMITS
from edgepack.names import SERVICE_NAME_RULE, check_device_name, check_group_name, check_service_name
from edgepack.oci.digest import Digest
from edgepack.state.times import format_time, parse_time

SCHEMA = "edgepack.desired/v1"
_WAY_OUT = "write it as docs/reference/device.md shows"
PAYLOAD_TYPE = "application/vnd.edgepack.desired.v1+json"
Status = Literal["running", "stopped"]
_FIND_DIGEST = "images are named by digest: edge-agent import prints it, and so does: edgepack package inspect TAG"
_NO_SERVICE = "x" * 3
_NO_IMAGE = Digest("0" * 64)
# RFC 3986, section 3.3 and 3.4: what the target of a request may hold.
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,1023}")
MAX_SERIAL = (1 << 63) - 1
_MAX_TIMEOUT = 24 * 3600.0


@dataclass(frozen=True)
class DesiredService:
    """A service: ``image`` is the digest of a manifest or index, ``port`` a TCP port of the device's ``address``."""

    name: str
    image: Digest
    port: int
    status: Status = "running"
    address: str = "127.0.0.1"
    env: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int | None = None
    cpus: float | None = None
    health_path: str = "/"
    health_timeout_seconds: float = 60.0

    def collides(self, other: DesiredService) -> bool:
        """Whether both want the same port; an address such as 0.0.0.0 collides with every other."""
        wild = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
        return self.port == other.port and (
            self.address == other.address or self.address in wild or other.address in wild
        )

    def settings_changed(self, other: DesiredService) -> str:
        """What ``other`` has instead, in words: the settings by name, those of the environment without their values."""
        names = ("port", "address", "memory_bytes", "cpus", "health_path", "health_timeout_seconds")
        found = [
            f"{name} {mine} to {theirs}"
            for name in names
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]
        env = sorted(name for name in {*self.env, *other.env} if self.env.get(name) != other.env.get(name))
        found += [f"env.{name}" for name in env]
        return f"the change of {', '.join(found)}" if found else ""

    def to_json(self) -> dict[str, object]:
        """The service as a document shows it."""
        value: dict[str, object] = {
            "name": self.name, "image": str(self.image), "port": self.port, "status": self.status,
            "address": self.address, "env": dict(self.env),
            "health": {"path": self.health_path, "timeout_seconds": self.health_timeout_seconds},
        }  # fmt: skip
        if self.memory_bytes is not None:
            value["memory_bytes"] = self.memory_bytes
        if self.cpus is not None:
            value["cpus"] = self.cpus
        return value


@dataclass(frozen=True)
class Desired:
    """A desired state. ``serial`` only grows; ``None`` in a document without one.

    ``device`` or ``group`` is who it is for: no other device takes it. ``signed_at`` is when it was signed, in seconds
    since 1970; it tells a device whose clock is wrong that it is at least that late, and changes nothing else.
    """

    services: tuple[DesiredService, ...]
    serial: int | None = None
    device: str | None = None
    group: str | None = None
    signed_at: int | None = None

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "desired state") -> Desired:
        """Read a document; raises ``InvalidDocumentError`` naming every wrong field."""
        violations: list[str] = []
        value = parse_object(data, where, hint=_WAY_OUT)
        _check_count(value.get("services"), where)
        fields = Fields(value, "", violations)
        fields.schema(SCHEMA)
        serial = fields.take("serial", int)
        if serial is not None and not 0 <= serial <= MAX_SERIAL:
            fields.wrong("serial", f"must be from 0 to {MAX_SERIAL}")
        device = fields.parsed("device", check_device_name, required=False)
        group = fields.parsed("group", check_group_name, required=False)
        if device is not None and group is not None:
            fields.wrong("group", "and device must not both be there: a document is for a device or for a group")
        signed_at = fields.parsed("signed_at", parse_time, required=False)
        services = tuple(read_service(item) for item in fields.each("services"))
        fields.finish()
        _check_unique(services, fields)
        # By the placeholders: a name or an image was wrong.
        rules = [
            *([SERVICE_NAME_RULE] if any(one.name == _NO_SERVICE for one in services) else ()),
            *([_FIND_DIGEST] if any(one.image == _NO_IMAGE for one in services) else ()),
        ]
        raise_all(where, violations, hint="; ".join(rules) or (None if value.get("schema") == SCHEMA else _WAY_OUT))
        return cls(services, serial, device, group, signed_at)

    def to_bytes(self) -> bytes:
        """The canonical document."""
        value: dict[str, object] = {"schema": SCHEMA, "services": [one.to_json() for one in self.services]}
        optional = {"serial": self.serial, "device": self.device, "group": self.group}
        value |= {key: one for key, one in optional.items() if one is not None}
        if self.signed_at is not None:
            value["signed_at"] = format_time(self.signed_at)
        return canonical_json(value)

    @property
    def content(self) -> bytes:
        """The canonical document without the time of its signature: signed again, it asks for the same."""
        return replace(self, signed_at=None).to_bytes()


def read_service(fields: Fields) -> DesiredService:
    """One service; errors become violations of ``fields``, and a placeholder replaces what is wrong."""
    name = fields.parsed("name", check_service_name) or _NO_SERVICE
    image = fields.parsed("image", Digest.parse) or _NO_IMAGE
    port = fields.take("port", int, required=True)
    if port is not None and not 0 < port < 65536:
        fields.wrong("port", "must be from 1 to 65535")
    status = fields.take("status", str, "running")
    if status not in ("running", "stopped"):
        fields.wrong("status", "must be running or stopped")
    address = fields.parsed("address", _address, required=False) or "127.0.0.1"
    memory, cpus = fields.take("memory_bytes", int), fields.take("cpus", float)
    if memory is not None and not 1 << 20 <= memory < 1 << 63:
        fields.wrong("memory_bytes", "must be at least 1048576")
    if cpus is not None and not 0 < cpus <= 4096:
        fields.wrong("cpus", "must be more than 0, such as 0.5")
    env = _env(fields)
    health = fields.child("health")
    path, timeout = health.take("path", str), health.take("timeout_seconds", float)
    if path is not None and not _PATH.fullmatch(path):
        health.wrong("path", "must be a path such as /health, without spaces")
    if timeout is not None and not 0 < timeout <= _MAX_TIMEOUT:
        health.wrong("timeout_seconds", f"must be more than 0 and at most {_MAX_TIMEOUT:g}")
    health.finish()
    fields.finish()
    return DesiredService(
        name, image, port or 0, cast(Status, status), address, env, memory, cpus, path or "/", timeout or 60.0
    )


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise UsageError(f"{text!r} is not an IP address such as 127.0.0.1") from None


def _env(fields: Fields) -> dict[str, str]:
    env = fields.take("env", dict, {}) or {}
    for key, value in env.items():
        # What execve(2) can take.
        if not key or "=" in key or "\0" in key:
            fields.wrong("env", f"must not have the name {key!r}")
        elif not isinstance(value, str) or "\0" in value:
            fields.wrong(f"env.{key}", "must be text, without zero bytes")
    return env


def _check_count(services: object, where: object) -> None:
    """Before they are read: what is read of a service is a hundred times as long as an empty one."""
    if isinstance(services, list) and len(services) > LIMITS.desired_services:
        raise_all(where, [f"services must be at most {LIMITS.desired_services}, and are {len(services)}"])


def _check_unique(services: tuple[DesiredService, ...], fields: Fields) -> None:
    names = [one.name for one in services if one.name != _NO_SERVICE]
    for name in sorted({name for name in names if names.count(name) > 1}):
        fields.wrong("services", f"list {name!r} twice")
    running = [one for one in services if one.status == "running" and one.port]
    for at, one in enumerate(running):
        if any(one.collides(other) for other in running[:at]):
            fields.wrong("services", f"give port {one.port} to more than one service")
