"""What a device reports of its endpoints: how each is, and what its versions have answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from edgepack.documents import Fields, raise_all
from edgepack.errors import UsageError
from edgepack.state.times import format_time, parse_time


class EndpointState(StrEnum):
    """The state of an endpoint: ``UNHEALTHY`` has a version that is to get requests and does not answer."""

    TRANSITIONING = "Transitioning"
    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    FAILED = "Failed"


@dataclass(frozen=True)
class ReportedVersion:
    """A version: its share of the requests in percent, whether it answers, and what it has answered.

    ``errors`` of the ``requests`` had a status from 500, or no answer. ``latency_ms`` is the mean of the last 1024.
    """

    name: str
    weight: int
    is_up: bool
    requests: int = 0
    errors: int = 0
    latency_ms: float | None = None
    latency_most_ms: float | None = None

    def to_json(self) -> dict[str, object]:
        """The version as the JSON interface shows it."""
        return {
            "name": self.name, "weight": self.weight, "is_up": self.is_up, "requests": self.requests,
            "errors": self.errors, "latency_ms": self.latency_ms, "latency_most_ms": self.latency_most_ms,
        }  # fmt: skip


@dataclass(frozen=True)
class ReportedEndpoint:
    """An endpoint. Its versions are counted since the wall time ``since``, when its router was started.

    ``origin`` and ``serial`` say whose wish it is, as of a service.
    """

    name: str
    state: EndpointState
    url: str
    default: str
    control: str | None = None
    versions: tuple[ReportedVersion, ...] = ()
    reason: str | None = None
    since: float | None = None
    origin: str | None = None
    serial: int | None = None

    def to_json(self) -> dict[str, object]:
        """The endpoint as the JSON interface shows it."""
        return {
            "name": self.name, "state": self.state.value, "url": self.url, "default": self.default,
            "control": self.control, "versions": [one.to_json() for one in self.versions], "reason": self.reason,
            "since": None if self.since is None else format_time(self.since), "origin": self.origin,
            "serial": self.serial,
        }  # fmt: skip

    @property
    def uncounted(self) -> ReportedEndpoint:
        """The same without what changes with every request."""
        return replace(self, versions=tuple(ReportedVersion(one.name, one.weight, one.is_up) for one in self.versions))

    @classmethod
    def from_fields(cls, fields: Fields) -> ReportedEndpoint:
        """Read one; fields that later versions add are passed over, and errors become violations."""
        return cls(
            fields.take("name", str, required=True) or "", fields.parsed("state", _state) or EndpointState.FAILED,
            fields.take("url", str) or "", fields.take("default", str) or "", fields.take("control", str),
            tuple(_version(one) for one in fields.each("versions")), fields.take("reason", str),
            fields.parsed("since", parse_time, required=False), fields.take("origin", str), fields.take("serial", int),
        )  # fmt: skip


def read_endpoint(value: Mapping[str, Any], name: str, where: object) -> ReportedEndpoint | None:
    """The endpoint ``name`` in what ``edge-agent status`` answers in JSON; raises ``InvalidDocumentError``."""
    if "endpoints" not in value:  # as where there are none
        return None
    violations: list[str] = []
    found = [ReportedEndpoint.from_fields(one) for one in Fields(dict(value), "", violations).each("endpoints")]
    raise_all(where, violations)
    return next((one for one in found if one.name == name), None)


def _version(fields: Fields) -> ReportedVersion:
    return ReportedVersion(
        fields.take("name", str, required=True) or "", fields.take("weight", int) or 0,
        bool(fields.take("is_up", bool)), fields.take("requests", int) or 0, fields.take("errors", int) or 0,
        fields.take("latency_ms", float), fields.take("latency_most_ms", float),
    )  # fmt: skip


def _state(text: str) -> EndpointState:
    if text not in list(EndpointState):
        raise UsageError(f"{text[:40]!r} is not one of {', '.join(EndpointState)}")
    return EndpointState(text)
