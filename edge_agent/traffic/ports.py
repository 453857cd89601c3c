"""Whose port is whose, of services and endpoints; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge_agent.state.goals import EndpointGoal
from edge_agent.state.records import ServiceRecord
from edgepack.state.desired import Desired
from edgepack.state.reported import ServiceState

# Nothing of a service in these states has its port.
_IDLE = (ServiceState.STOPPED, ServiceState.REMOVED, ServiceState.FAILED)


def conflicts(
    desired: Desired, services: Mapping[str, ServiceRecord], endpoints: Mapping[str, EndpointGoal]
) -> tuple[str, ...]:
    """The ports and names that ``desired`` takes from services and endpoints that it does not name."""
    return tuple(_conflicts(desired, services, endpoints))


def _conflicts(
    desired: Desired, services: Mapping[str, ServiceRecord], endpoints: Mapping[str, EndpointGoal]
) -> Iterator[str]:
    named = {one.name for one in desired.services}
    others = [one for one in services.values() if one.name not in named and one.state not in _IDLE]
    for new in desired.endpoints:
        if new.status == "running":
            for record in others:
                spec = record.current.spec
                if new.collides(spec.address, spec.port):
                    yield f"endpoint {new.name!r} needs port {new.port} of service {record.name!r}"
                if record.name == new.name:
                    yield f"endpoint {new.name!r} has the name of a service"
    given = {one.name for one in desired.endpoints}
    for goal in endpoints.values():
        one = goal.spec
        if one.name in given or one.status != "running":
            continue
        for service in desired.services:
            if service.status != "running":
                continue
            if one.collides(service.address, service.port):
                yield f"service {service.name!r} needs port {service.port} of endpoint {one.name!r}"
            if service.name == one.name:
                yield f"service {service.name!r} has the name of an endpoint"
        for other in desired.endpoints:
            if other.status == "running" and one.collides(other.host, other.port):
                yield f"endpoint {other.name!r} needs port {other.port} of endpoint {one.name!r}"
