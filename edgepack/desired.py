"""Desired state: which services a device shall run, each image by its digest.

A service that a document does not name is left as it is: an empty document never means "remove everything".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from edgepack.fields import Fields, raise_all
from edgepack.names import check_service_name
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import canonical_json, parse_object

SCHEMA = "edgepack.desired/v1"
PAYLOAD_TYPE = "application/vnd.edgepack.desired.v1+json"
Status = Literal["running", "stopped"]


@dataclass(frozen=True)
class DesiredService:
    """A service: ``image`` is the digest of a manifest or index, ``port`` a TCP port of the device's loopback."""

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
    """A desired state. ``serial`` only grows; ``None`` where nobody counts."""

    services: tuple[DesiredService, ...]
    serial: int | None = None

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "desired state") -> Desired:
        """Read a document; raises ``InvalidDocumentError`` naming every wrong field."""
        violations: list[str] = []
        fields = Fields(parse_object(data, where), "", violations)
        if fields.take("schema", str, required=True) not in (SCHEMA, None):
            fields.wrong("schema", f"must be {SCHEMA}")
        serial = fields.take("serial", int)
        if serial is not None and serial < 0:
            fields.wrong("serial", "must not be negative")
        services = tuple(read_service(item) for item in fields.each("services"))
        fields.finish()
        _check_unique(services, fields)
        raise_all(where, violations)
        return cls(services, serial)

    def to_bytes(self) -> bytes:
        """The canonical document."""
        value: dict[str, object] = {"schema": SCHEMA, "services": [one.to_json() for one in self.services]}
        if self.serial is not None:
            value["serial"] = self.serial
        return canonical_json(value)


def read_service(fields: Fields) -> DesiredService:
    """One service; what is wrong goes to the violations of ``fields``."""
    name = fields.parsed("name", check_service_name) or ""
    image = fields.parsed("image", Digest.parse) or Digest("0" * 64)
    port = fields.take("port", int, 0, required=True) or 0
    if not 0 < port < 65536:
        fields.wrong("port", "must be from 1 to 65535")
    status = fields.take("status", str, "running")
    if status not in ("running", "stopped"):
        fields.wrong("status", "must be running or stopped")
    env = fields.take("env", dict, {}) or {}
    if not all(isinstance(item, str) for pair in env.items() for item in pair):
        fields.wrong("env", "must map text to text")
    memory, cpus = fields.take("memory_bytes", int), fields.take("cpus", float)
    if memory is not None and memory < 1 << 20:
        fields.wrong("memory_bytes", "must be at least 1048576")
    if cpus is not None and cpus <= 0:
        fields.wrong("cpus", "must be positive")
    health = fields.child("health")
    found = DesiredService(
        name, image, port, cast(Status, status), fields.take("address", str, "127.0.0.1") or "127.0.0.1",
        env, memory, cpus, health.take("path", str, "/") or "/",
        health.take("timeout_seconds", float, 60.0) or 60.0,
    )  # fmt: skip
    health.finish()
    fields.finish()
    return found


def _check_unique(services: tuple[DesiredService, ...], fields: Fields) -> None:
    names = [one.name for one in services]
    ports = [(one.address, one.port) for one in services if one.status == "running"]
    for name in sorted({name for name in names if names.count(name) > 1}):
        fields.wrong("services", f"name {name!r} twice")
    for _, port in sorted({pair for pair in ports if ports.count(pair) > 1}):
        fields.wrong("services", f"give port {port} to two services")

