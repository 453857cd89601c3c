"""From desired and current state to steps; pure.

Rules: everything is prepared before anything is stopped; a service that already runs as desired is left alone; a
service that the document does not name is left alone, and keeps its port.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edge_agent.state.records import Deployment, ServiceRecord
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.reported import ServiceState

# States in which nothing of the service runs, so that its port is free.
_IDLE = (ServiceState.STOPPED, ServiceState.FAILED, ServiceState.REMOVED)


@dataclass(frozen=True)
class Prepare:
    """Verify an image and prepare everything that starting ``service`` with it needs."""

    service: str
    image: Digest


@dataclass(frozen=True)
class Stop:
    """Stop a service and keep its record."""

    service: str


@dataclass(frozen=True)
class Switch:
    """Run ``spec``; ``fallback`` is what to roll back to when it does not become healthy.

    ``returning`` marks a rollback to what was healthy before.
    """

    spec: DesiredService
    fallback: Deployment | None
    returning: bool = False


Step = Prepare | Stop | Switch


def plan(desired: Desired, services: Mapping[str, ServiceRecord], healthy: Collection[str]) -> tuple[Step, ...]:
    """The steps from ``services`` to ``desired``; ``healthy`` names those that run as recorded and answer."""
    wanted = [
        spec
        for spec in desired.services
        if spec.status == "running" and not _runs_already(spec, services.get(spec.name), healthy)
    ]
    prepares = [Prepare(spec.name, spec.image) for spec in wanted]
    stops = [
        Stop(spec.name)
        for spec in desired.services
        if spec.status == "stopped" and spec.name in services and services[spec.name].state is not ServiceState.STOPPED
    ]
    # A port may move from one service to another: the one that has it is stopped first.
    stops += [Stop(name) for name in _colliding(wanted, services)]
    switches = [Switch(spec, _fallback(spec, services)) for spec in wanted]
    return (*prepares, *stops, *switches)


def plan_rollback(record: ServiceRecord) -> tuple[Step, ...]:
    """The steps back to the last good image; empty without one."""
    target = record.last_good
    if target is None:
        return ()
    return (
        Prepare(record.name, target.spec.image),
        Switch(target.spec, record.fallback(target.spec), returning=True),
    )


def conflicts(desired: Desired, services: Mapping[str, ServiceRecord]) -> tuple[str, ...]:
    """The conflicts of ``desired`` with services that it does not name, over ports."""
    named = {spec.name for spec in desired.services}
    kept = [one for one in services.values() if one.name not in named and one.state not in _IDLE]
    return tuple(
        f"service {spec.name!r} needs port {spec.port} of service {record.name!r}, which the document does not name"
        for spec in desired.services
        for record in kept
        if spec.status == "running" and spec.collides(record.current.spec)
    )


def _runs_already(spec: DesiredService, record: ServiceRecord | None, healthy: Collection[str]) -> bool:
    return (
        record is not None
        and record.state is ServiceState.HEALTHY
        and record.current.spec == spec
        and spec.name in healthy
    )


def _colliding(wanted: list[DesiredService], services: Mapping[str, ServiceRecord]) -> list[str]:
    moving = [services[spec.name] for spec in wanted if spec.name in services]
    return [
        record.name
        for record in moving
        if record.state not in _IDLE
        and any(spec.name != record.name and spec.collides(record.current.spec) for spec in wanted)
    ]


def _fallback(spec: DesiredService, services: Mapping[str, ServiceRecord]) -> Deployment | None:
    record = services.get(spec.name)
    return None if record is None else record.fallback(spec)
