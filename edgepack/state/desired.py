"""Desired state: which services a device is to run, each image by its digest.

A service that a document does not name is left as it is: an empty document never means "remove everything".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Literal, cast, get_args

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import UsageError
from edgepack.limits import LIMITS
from edgepack.names import SERVICE_NAME_RULE, check_device_name, check_group_name, check_service_name
from edgepack.oci.digest import Digest
from edgepack.state.endpoints import DesiredEndpoint, read_endpoints
from edgepack.state.host_access import (
    NETWORKS,
    DeviceNode,
    Mount,
    Network,
    read_devices,
    read_mounts,
    read_secrets,
)
from edgepack.state.service_auth import ServiceAuth, read_auth
from edgepack.state.times import format_time, parse_time

SCHEMA = "edgepack.desired/v1"
_WAY_OUT = "write it as docs/reference/device.md shows"
PAYLOAD_TYPE = "application/vnd.edgepack.desired.v1+json"
Status = Literal["running", "stopped", "removed"]
Restart = Literal["never", "on-failure", "on-unhealthy", "always"]
_FIND_DIGEST = "images are named by digest: edge-agent import prints it, and so does: edgepack package inspect TAG"
_NO_SERVICE = "x" * 3
# Of a service that is to be removed, whose image need not be named.
NO_IMAGE = Digest("0" * 64)
# RFC 3986, section 3.3 and 3.4: what the target of a request may hold.
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,1023}")
MAX_SERIAL = (1 << 63) - 1
_MAX_TIMEOUT = 24 * 3600.0
_MAX_FAILURES = 1000
# Two parts of a log are kept, each with room for a few lines.
_MIN_LOG, _MAX_LOG = 64 << 10, 1 << 40


@dataclass(frozen=True)
class DesiredService:
    """A service: ``image`` is the digest of a manifest or index, ``port`` a TCP port of the device's ``address``.

    Of one that is to be removed ``image`` may be ``NO_IMAGE`` and ``port`` 0. ``restart`` says when a service that has
    ended, or that failed ``health_failures`` checks ``health_interval_seconds`` apart, is started again;
    ``probation_seconds`` how long a new version must stay healthy before the earlier one is given up. ``network`` is
    ``None`` for what the runtime does by itself, ``secrets`` are names, ``log_bytes`` is the most that is kept of what
    the service writes, ``None`` for the device's usual quota. ``auth`` is
    what callers show; a change of its keys starts nothing again.
    """

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
    health_interval_seconds: float = 10.0
    health_failures: int = 3
    restart: Restart = "always"
    probation_seconds: float = 0.0
    mounts: tuple[Mount, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    secrets: tuple[str, ...] = ()
    network: Network | None = None
    log_bytes: int | None = None
    auth: ServiceAuth | None = None

    def with_other_keys(self, other: DesiredService) -> bool:
        """Whether ``other`` is the same but for its keys, or for what verifies its tokens."""
        return self != other and self.same_auth_mode(other) and replace(self, auth=other.auth) == other

    def same_auth_mode(self, other: DesiredService) -> bool:
        """Whether callers of both show the same kind of thing, and not nothing."""
        return self.auth is not None and other.auth is not None and self.auth.mode == other.auth.mode

    def collides(self, other: DesiredService) -> bool:
        """Whether both want the same port; an address such as 0.0.0.0 collides with every other."""
        wild = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
        return self.port == other.port and (
            self.address == other.address or self.address in wild or other.address in wild
        )

    def settings_changed(self, other: DesiredService) -> str:
        """What ``other`` has instead, in words: the settings by name, those of the environment without their values."""
        names = (
            "port", "address", "memory_bytes", "cpus", "health_path", "health_timeout_seconds",
            "health_interval_seconds", "health_failures", "restart", "probation_seconds", "network", "log_bytes",
        )  # fmt: skip
        found = [
            f"{name} {mine} to {theirs}"
            for name in names
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]
        env = sorted(name for name in {*self.env, *other.env} if self.env.get(name) != other.env.get(name))
        found += [f"env.{name}" for name in env]
        found += [
            name for name in ("mounts", "devices", "secrets", "auth") if getattr(self, name) != getattr(other, name)
        ]
        return f"the change of {', '.join(found)}" if found else ""

    def to_json(self) -> dict[str, object]:
        """The service as a document shows it; what is not in documents of earlier versions only where it is set."""
        health: dict[str, object] = {"path": self.health_path, "timeout_seconds": self.health_timeout_seconds}
        value: dict[str, object] = {
            "name": self.name, "image": str(self.image), "port": self.port, "status": self.status,
            "address": self.address, "env": dict(self.env), "health": health,
        }  # fmt: skip
        if self.status == "removed" and self.image == NO_IMAGE:
            del value["image"]
        if self.status == "removed" and not self.port:
            del value["port"]
        for name in ("memory_bytes", "cpus", "network", "log_bytes"):
            if getattr(self, name) is not None:
                value[name] = getattr(self, name)
        for into, key, name in (
            (health, "interval_seconds", "health_interval_seconds"), (health, "failures", "health_failures"),
            (value, "restart", "restart"), (value, "probation_seconds", "probation_seconds"),
        ):  # fmt: skip
            if getattr(self, name) != getattr(DesiredService, name):
                into[key] = getattr(self, name)
        if self.mounts:
            value["mounts"] = [one.to_json() for one in self.mounts]
        if self.devices:
            value["devices"] = [one.to_json() for one in self.devices]
        if self.secrets:
            value["secrets"] = list(self.secrets)
        if self.auth is not None:
            value["auth"] = self.auth.to_json()
        return value


@dataclass(frozen=True)
class Desired:
    """A desired state. ``serial`` only grows; ``None`` in a document without one.

    ``device`` or ``group`` is who it is for: no other device takes it. ``signed_at`` is when it was signed, in seconds
    since 1970; it tells a device whose clock is wrong that it is at least that late, and changes nothing else.
    ``agent`` is the image of the agent that is to run the device; without one, that stays as it is. ``endpoints`` share
    requests out among services of this document.
    """

    services: tuple[DesiredService, ...]
    serial: int | None = None
    device: str | None = None
    group: str | None = None
    signed_at: int | None = None
    agent: Digest | None = None
    endpoints: tuple[DesiredEndpoint, ...] = ()

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "desired state", *, find_image: str = _FIND_DIGEST) -> Desired:
        """Read a document; raises ``InvalidDocumentError`` naming every wrong field.

        ``find_image`` is what to do about an image that is named wrongly.
        """
        violations: list[str] = []
        value = parse_object(data, where, hint=_WAY_OUT)
        if "payloadType" in value:
            hint = "give the desired state as it was before it was signed"
            raise_all(where, ["it is a signed document, and no desired state"], hint=hint)
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
        agent = fields.parsed("agent", Digest.parse, required=False)
        services = tuple(read_service(item) for item in fields.each("services"))
        endpoints = read_endpoints(fields, services)
        fields.finish()
        _check_unique(services, fields)
        # By the placeholders: a name or an image was wrong.
        rules = [
            *([SERVICE_NAME_RULE] if any(one.name == _NO_SERVICE for one in services) else ()),
            *([find_image] if any(one.image == NO_IMAGE and one.status != "removed" for one in services) else ()),
        ]
        raise_all(where, violations, hint="; ".join(rules) or (None if value.get("schema") == SCHEMA else _WAY_OUT))
        return cls(services, serial, device, group, signed_at, agent, endpoints)

    def to_bytes(self) -> bytes:
        """The canonical document."""
        value: dict[str, object] = {"schema": SCHEMA, "services": [one.to_json() for one in self.services]}
        optional = {"serial": self.serial, "device": self.device, "group": self.group}
        value |= {key: one for key, one in optional.items() if one is not None}
        if self.agent is not None:
            value["agent"] = str(self.agent)
        if self.endpoints:
            value["endpoints"] = {one.name: one.to_json() for one in self.endpoints}
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
    status = fields.take("status", str, "running")
    gone = status == "removed"  # by its name alone
    image = fields.parsed("image", Digest.parse, required=not gone) or NO_IMAGE
    port = fields.take("port", int, required=not gone)
    if port is not None and not 0 < port < 65536:
        fields.wrong("port", "must be from 1 to 65535")
    if status not in get_args(Status):
        fields.wrong("status", "must be running, stopped or removed")
    address = fields.parsed("address", _address, required=False) or "127.0.0.1"
    memory, cpus = fields.take("memory_bytes", int), fields.take("cpus", float)
    if memory is not None and not 1 << 20 <= memory < 1 << 63:
        fields.wrong("memory_bytes", "must be at least 1048576")
    if cpus is not None and not 0 < cpus <= 4096:
        fields.wrong("cpus", "must be more than 0, such as 0.5")
    env = _env(fields)
    path, timeout, interval, failures = _health(fields.child("health"))
    restart = fields.take("restart", str, "always")
    if restart not in get_args(Restart):
        fields.wrong("restart", f"must be {', '.join(get_args(Restart)[:-1])} or {get_args(Restart)[-1]}")
    probation = fields.take("probation_seconds", float, 0.0)
    if probation is None or not 0 <= probation <= _MAX_TIMEOUT:
        fields.wrong("probation_seconds", f"must be at least 0 and at most {_MAX_TIMEOUT:g}")
    mounts, devices, secrets = read_mounts(fields), read_devices(fields), read_secrets(fields)
    network = fields.take("network", str)
    if network is not None and network not in NETWORKS:
        fields.wrong("network", f"must be {' or '.join(NETWORKS)}")
    log_bytes = fields.take("log_bytes", int)
    if log_bytes is not None and not _MIN_LOG <= log_bytes <= _MAX_LOG:
        fields.wrong("log_bytes", f"must be from {_MIN_LOG} to {_MAX_LOG}")
    auth = read_auth(fields)
    fields.finish()
    return DesiredService(
        name, image, port or 0, cast(Status, status), address, env, memory, cpus, path, timeout, interval, failures,
        cast(Restart, restart), probation or 0.0, mounts, devices, secrets, cast("Network | None", network), log_bytes,
        auth,
    )  # fmt: skip


def _health(health: Fields) -> tuple[str, float, float, int]:
    """Path, timeout, interval and failures of the health check."""
    path, timeout = health.take("path", str), health.take("timeout_seconds", float)
    if path is not None and not _PATH.fullmatch(path):
        health.wrong("path", "must be a path such as /health, without spaces")
    interval, failures = health.take("interval_seconds", float), health.take("failures", int)
    for key, value in (("timeout_seconds", timeout), ("interval_seconds", interval)):
        if value is not None and not 0 < value <= _MAX_TIMEOUT:
            health.wrong(key, f"must be more than 0 and at most {_MAX_TIMEOUT:g}")
    if failures is not None and not 1 <= failures <= _MAX_FAILURES:
        health.wrong("failures", f"must be from 1 to {_MAX_FAILURES}")
    health.finish()
    return path or "/", timeout or 60.0, interval or 10.0, failures or 3


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
