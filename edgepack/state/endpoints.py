"""Endpoints of a device: one port for several versions of a service, each of which gets a share of the requests.

A version is a service of the same document, on a loopback address; who calls the endpoint never sees which one answers,
but for a header of the answer. An endpoint that a document does not name is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, Protocol, cast, get_args

from edgepack.documents import Fields
from edgepack.errors import EdgepackError, UsageError
from edgepack.names import check_service_name
from edgepack.state.host_access import absolute_path

EndpointStatus = Literal["running", "removed"]
MOST_VERSIONS = 6
CALLER_HEADER = "x-request-id"
# As Azure's: who has waited so long for a free connection is told that the service is busy.
QUEUE_SECONDS = 0.5
_WILD = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
# RFC 9110, section 5.1: the name of a field, without the characters that nobody uses.
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAX_CONNECTIONS, _MAX_SECONDS = 100_000, 3600.0
_MOST_ENDPOINTS = 100


class Placed(Protocol):
    """What is to be known of a service that may be a version."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def status(self) -> str:
        """Whether it is to run."""

    @property
    def address(self) -> str:
        """The address that it answers on."""

    @property
    def port(self) -> int:
        """Its port."""


@dataclass(frozen=True)
class EndpointTls:
    """The files of a certificate, with its chain, and of its key, in PEM; on the device, by absolute paths."""

    certificate: str
    key: str

    def to_json(self) -> dict[str, object]:
        """The files as a document names them."""
        return {"certificate": self.certificate, "key": self.key}


@dataclass(frozen=True)
class DesiredEndpoint:
    """An endpoint: ``weights`` has the percent of each version, by the names of their services.

    ``default`` is the version that gets what the weights leave of 100. ``control`` is the one that others are compared
    with. Requests with the same ``caller_header`` go to the same version. ``max_connections`` is how many requests a
    version gets at the same time, ``None`` for any number; others wait for ``queue_seconds``.
    """

    name: str
    port: int
    weights: Mapping[str, int]
    default: str
    control: str | None = None
    host: str = "127.0.0.1"
    caller_header: str = CALLER_HEADER
    max_connections: int | None = None
    queue_seconds: float = QUEUE_SECONDS
    tls: EndpointTls | None = None
    status: EndpointStatus = "running"

    @property
    def shares(self) -> dict[str, int]:
        """What each version gets, in percent: all of it together is 100."""
        rest = 100 - sum(self.weights.values())
        return {name: weight + (rest if name == self.default else 0) for name, weight in self.weights.items()}

    def collides(self, address: str, port: int) -> bool:
        """Whether a service at ``address`` needs the same port."""
        return self.port == port and (self.host == address or self.host in _WILD or address in _WILD)

    def to_json(self) -> dict[str, object]:
        """The endpoint as a document shows it, below its name; what is usual is left out."""
        if self.status == "removed":
            return {"status": self.status}
        value: dict[str, object] = {
            "port": self.port, "default": self.default,
            "versions": {name: {"weight": weight} for name, weight in self.weights.items()},
        }  # fmt: skip
        for key in ("control", "max_connections"):
            if getattr(self, key) is not None:
                value[key] = getattr(self, key)
        for key in ("host", "caller_header", "queue_seconds"):
            if getattr(self, key) != getattr(DesiredEndpoint, key):
                value[key] = getattr(self, key)
        if self.tls is not None:
            value["tls"] = self.tls.to_json()
        return value


def removed_endpoint(name: str) -> DesiredEndpoint:
    """What is desired of an endpoint that is to be removed."""
    return DesiredEndpoint(name, 0, {}, "", status="removed")


def read_endpoints(parent: Fields, services: Sequence[Placed]) -> tuple[DesiredEndpoint, ...]:
    """The field ``endpoints`` of a document that names ``services``; errors become violations."""
    value = parent.take("endpoints", dict) or {}
    if len(value) > _MOST_ENDPOINTS:
        parent.wrong("endpoints", f"must be at most {_MOST_ENDPOINTS}, and are {len(value)}")
        return ()
    fields = parent.child("endpoints")
    parts = {name: fields.child(name) for name in sorted(value)}
    found = tuple(_named(fields, name, part) for name, part in parts.items())
    fields.finish()
    running = [one for one in found if one.status == "running"]
    for at, one in enumerate(running):
        _check_versions(parts[one.name], one, services)
        others = [(other.name, other.host, other.port) for other in running[:at]]
        others += [(other.name, other.address, other.port) for other in services if other.status == "running"]
        for name in (name for name, address, port in others if one.port and one.collides(address, port)):
            fields.wrong(one.name, f"has port {one.port} of {name}")
    for one in found:
        if one.name in {service.name for service in services}:
            fields.wrong(one.name, "has the name of a service")
    return found


def _named(fields: Fields, name: str, part: Fields) -> DesiredEndpoint:
    try:
        check_service_name(name)
    except EdgepackError as error:
        fields.wrong(name, f"cannot be the name of an endpoint: {error.what}")
    return read_endpoint(name, part)


def read_endpoint(name: str, fields: Fields) -> DesiredEndpoint:
    """One endpoint; errors become violations of ``fields``."""
    status = fields.take("status", str, "running")
    if status not in get_args(EndpointStatus):
        fields.wrong("status", "must be running or removed")
    if status == "removed":
        fields.finish()
        return removed_endpoint(name)
    port = fields.take("port", int, required=True)
    if port is not None and not 0 < port < 65536:
        fields.wrong("port", "must be from 1 to 65535")
    weights = _read_weights(fields)
    default, control = fields.take("default", str, required=True), fields.take("control", str)
    for key, one in (("default", default), ("control", control)):
        if one is not None and one not in weights:
            fields.wrong(key, f"must be one of the versions {', '.join(weights) or 'that it has'}, and is {one[:40]!r}")
    host = fields.parsed("host", _address, required=False) or DesiredEndpoint.host
    header = fields.take("caller_header", str, CALLER_HEADER) or ""
    if not _HEADER.fullmatch(header):
        fields.wrong("caller_header", "must be the name of a header, such as x-request-id")
    most, seconds = fields.take("max_connections", int), fields.take("queue_seconds", float, QUEUE_SECONDS)
    if most is not None and not 0 < most <= _MAX_CONNECTIONS:
        fields.wrong("max_connections", f"must be from 1 to {_MAX_CONNECTIONS}")
    if seconds is None or not 0 < seconds <= _MAX_SECONDS:
        fields.wrong("queue_seconds", f"must be more than 0 and at most {_MAX_SECONDS:g}")
    tls = _read_tls(fields)
    fields.finish()
    return DesiredEndpoint(
        name, port or 0, weights, default or "", control, host, header.lower(), most, seconds or QUEUE_SECONDS, tls,
        cast(EndpointStatus, status),
    )  # fmt: skip


def _read_weights(fields: Fields) -> dict[str, int]:
    names = fields.take("versions", dict, required=True) or {}
    versions = fields.child("versions")
    weights = {}
    for name in names:
        one = versions.child(name)
        weight = one.take("weight", int, 0) or 0
        if not 0 <= weight <= 100:
            one.wrong("weight", "must be from 0 to 100 percent")
        one.finish()
        weights[name] = weight
    if not 0 < len(weights) <= MOST_VERSIONS:
        fields.wrong("versions", f"must be from 1 to {MOST_VERSIONS}, and are {len(weights)}")
    if (total := sum(weights.values())) > 100:
        fields.wrong("versions", f"get {total} percent together, which must be at most 100")
    return weights


def _read_tls(fields: Fields) -> EndpointTls | None:
    if fields.take("tls", dict) is None:
        return None
    tls = fields.child("tls")
    certificate, key = tls.parsed("certificate", absolute_path), tls.parsed("key", absolute_path)
    tls.finish()
    return EndpointTls(certificate or "", key or "")


def _check_versions(fields: Fields, one: DesiredEndpoint, services: Iterable[Placed]) -> None:
    known = {service.name: service for service in services}
    for name in one.weights:
        service = known.get(name)
        if service is None or service.status != "running":
            fields.wrong(f"versions.{name}", "must be a service of this document that is to run")
        elif not ip_address(service.address).is_loopback:
            fields.wrong(f"versions.{name}", f"must be on a loopback address, and is on {service.address}")


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise UsageError(f"{text[:60]!r} is not an IP address such as 127.0.0.1") from None
