"""An endpoint as the workspace knows it, and what changes it; pure.

By Azure's rules: up to six versions, the first of which is the default one; it gets what the others leave. At most one
is the control version, and the others are its treatments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgepack.errors import NotFoundError, UsageError
from edgepack.names import check_service_name
from edgepack.nearness import did_you_mean, listed
from edgepack.state.endpoints import CALLER_HEADER, MOST_VERSIONS, QUEUE_SECONDS, DesiredEndpoint, EndpointTls
from packager.services.configuration.values import Auth, ComputeType, DeviceDeployment

if TYPE_CHECKING:
    from packager.services.configuration.rules import Configuration

_EVERYWHERE = "0.0.0.0"  # noqa: S104 - asked for by a host's name


@dataclass(frozen=True)
class Endpoint:
    """An endpoint on a target. ``weights`` are the percents that versions were given, by their names, such as ``v1``.

    ``target`` is the device, ``None`` on this machine. ``tls`` are files on the device. With a ``host_name`` it answers
    on all addresses of its device, else there alone. Times are UTC.
    """

    name: str
    compute_type: ComputeType
    target: str | None
    port: int
    weights: Mapping[str, int]
    default: str
    control: str | None = None
    caller_header: str = CALLER_HEADER
    max_connections: int | None = None
    queue_seconds: float = QUEUE_SECONDS
    tls: EndpointTls | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    updated: str = ""
    host_name: str | None = None

    @property
    def shares(self) -> dict[str, int]:
        """What each version gets, in percent."""
        rest = 100 - sum(self.weights.values())
        return {name: weight + (rest if name == self.default else 0) for name, weight in self.weights.items()}

    def service(self, version: str) -> str:
        """The name of the service that is ``version``; raises ``NotFoundError``."""
        if version not in self.weights:
            hint = did_you_mean(version, self.weights, f"it has {listed([*self.weights])}")
            raise NotFoundError(f"version {version!r} not found", where=f"endpoint {self.name}", hint=hint)
        return service_of(self.name, version)

    def desired(self) -> DesiredEndpoint:
        """The endpoint as a device is told."""
        control = None if self.control is None else self.service(self.control)
        made = DesiredEndpoint(
            self.name, self.port, {self.service(name): weight for name, weight in self.weights.items()},
            self.service(self.default), control, caller_header=self.caller_header,
            max_connections=self.max_connections, queue_seconds=self.queue_seconds, tls=self.tls,
        )  # fmt: skip
        return made if self.host_name is None else replace(made, host=_EVERYWHERE)

    def to_json(self) -> dict[str, Any]:
        """The endpoint as the JSON interface shows it, and as it is kept."""
        return {
            "name": self.name, "compute_type": self.compute_type.value, "target": self.target, "port": self.port,
            "weights": dict(self.weights), "default": self.default, "control": self.control,
            "caller_header": self.caller_header, "max_connections": self.max_connections,
            "queue_seconds": self.queue_seconds, "tls": None if self.tls is None else self.tls.to_json(),
            "description": self.description, "tags": dict(self.tags), "properties": dict(self.properties),
            "created": self.created, "updated": self.updated, "host_name": self.host_name,
        }  # fmt: skip

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Endpoint:
        """The endpoint that was kept."""
        tls = value["tls"]
        made = {**value, "compute_type": ComputeType(value["compute_type"])}
        return cls(**{**made, "tls": None if tls is None else EndpointTls(**tls)})


def service_of(endpoint: str, version: str) -> str:
    """The name of the service that is ``version`` of ``endpoint``; raises ``InvalidReferenceError``."""
    return check_service_name(f"{endpoint}-{version}")


def of_version(one: Endpoint, version: str, given: Configuration) -> Configuration:
    """The configuration of a version, which answers on its device alone: the host's name is the endpoint's.

    Raises ``UsageError`` for what a version has no part in.
    """
    deployment, where = given.deployment, f"version {version}"
    if not isinstance(deployment, DeviceDeployment):
        return given
    if deployment.tls is not None:
        raise UsageError(
            "has a certificate, which the endpoint shows, not its versions", where=where,
            hint="leave out sslEnabled, and give the endpoint one: --tls CERTIFICATE KEY",
        )  # fmt: skip
    if deployment.host_name is None:
        return given
    if deployment.host_name != one.host_name:
        raise UsageError(
            f"has another dnsNameLabel than the endpoint, whose name is {one.host_name or 'its device alone'}",
            where=where, hint="leave it out",
        )  # fmt: skip
    written = {name: value for name, value in given.written.items() if name.lower() != "dnsnamelabel"}
    return replace(given, deployment=replace(deployment, host_name=None), written=written)


def host_name_of(given: Configuration) -> str | None:
    """The name of the host that an endpoint answers for, by the configuration of its first version."""
    return given.deployment.host_name if isinstance(given.deployment, DeviceDeployment) else None


def check_auth(version: str, auth: Auth, others: Auth) -> None:
    """Raise ``UsageError`` unless callers of ``version`` show what those of the ``others`` do."""
    if auth is not others:
        raise UsageError(
            "asks its callers for something else than the other versions", where=f"version {version}",
            hint="give authEnabled and tokenAuthEnabled as they have it",
        )  # fmt: skip


def with_version(
    one: Endpoint, version: str, weight: int = 0, *, is_default: bool = False, is_control: bool = False
) -> Endpoint:
    """The endpoint with one more version; raises ``UsageError``."""
    where = f"endpoint {one.name}"
    if version in one.weights:
        raise UsageError(
            f"has a version {version!r} already", where=where,
            hint=f"change it: edgepack endpoint update {one.name} --version {version}",
        )  # fmt: skip
    if len(one.weights) >= MOST_VERSIONS:
        raise UsageError(
            f"has {MOST_VERSIONS} versions, and may have no more", where=where,
            hint=f"delete one: edgepack endpoint delete-version {one.name} VERSION",
        )  # fmt: skip
    made = replace(one, weights={**one.weights, version: 0})
    return with_traffic(changed(made, version, is_default=is_default, is_control=is_control), {version: weight})


def changed(one: Endpoint, version: str, *, is_default: bool | None = None, is_control: bool | None = None) -> Endpoint:
    """The endpoint with ``version`` as its default or its control, or not as its control any more."""
    one.service(version)
    if is_default is False and version == one.default:
        raise UsageError(
            f"version {version!r} is the default, and there must be one", where=f"endpoint {one.name}",
            hint="make another version the default",
        )  # fmt: skip
    if is_default:
        one = replace(one, default=version)
    if is_control:
        one = replace(one, control=version)
    elif is_control is False and version == one.control:
        one = replace(one, control=None)
    return one


def with_traffic(one: Endpoint, given: Mapping[str, int]) -> Endpoint:
    """The endpoint with other shares. The default version, where it is not ``given``, gets what is left.

    Raises ``UsageError`` for shares that are more than 100 together, ``NotFoundError`` for a version that it lacks.
    """
    where = f"endpoint {one.name}"
    for name, weight in given.items():
        one.service(name)
        if not 0 <= weight <= 100:
            raise UsageError(f"version {name!r} cannot get {weight} percent", where=where, hint="give 0 to 100")
    kept = {name: 0 if name == one.default else weight for name, weight in one.weights.items()}
    weights = {**kept, **given}
    if (total := sum(weights.values())) > 100:
        shares = ", ".join(f"{name} {weight}" for name, weight in weights.items() if weight)
        raise UsageError(f"its versions get {total} percent together ({shares})", where=where, hint="give at most 100")
    return replace(one, weights=weights)


def promoted(one: Endpoint, version: str) -> Endpoint:
    """The endpoint in which ``version`` is the default and the control, and gets everything."""
    one = changed(one, version, is_default=True, is_control=True)
    return replace(one, weights={name: 100 if name == version else 0 for name in one.weights})


def without_version(one: Endpoint, version: str) -> Endpoint:
    """The endpoint without ``version``; raises ``UsageError`` for one that still gets requests."""
    one.service(version)
    where = f"endpoint {one.name}"
    if version == one.default:
        hint = f"make another one the default: edgepack endpoint promote {one.name} VERSION"
        if len(one.weights) == 1:
            hint = f"delete the endpoint: edgepack endpoint delete {one.name}"
        raise UsageError(f"version {version!r} is the default", where=where, hint=hint)
    if share := one.shares[version]:
        raise UsageError(
            f"version {version!r} still gets {share} percent of the requests", where=where,
            hint=f"give it none first: edgepack endpoint set-traffic {one.name} {version}=0",
        )  # fmt: skip
    weights = {name: weight for name, weight in one.weights.items() if name != version}
    return replace(one, weights=weights, control=None if one.control == version else one.control)
