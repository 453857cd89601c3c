"""From desired and current state to steps; pure.

Rules: everything is prepared before anything is stopped; a service that already runs as desired is left alone; a
service that the document does not name is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.state import Outcome, ServiceRecord
from edgepack.desired import Desired, DesiredService
from edgepack.oci.digest import Digest
from edgepack.reported import ServiceState


@dataclass(frozen=True)
class Prepare:
    """Verify an image and put in place all that starting it needs."""

    image: Digest


@dataclass(frozen=True)
class Switch:
    """Run ``spec``; ``fallback`` is what to return to when it does not become healthy."""

    spec: DesiredService
    fallback: DesiredService | None


@dataclass(frozen=True)
class Stop:
    """Stop a service and keep its record."""

    service: str


Step = Prepare | Switch | Stop


def plan(desired: Desired, services: Mapping[str, ServiceRecord], running: frozenset[str]) -> tuple[Step, ...]:
    """The steps from ``services`` (of which ``running`` have a living instance) to ``desired``."""
    prepares: list[Step] = []
    stops: list[Step] = []
    switches: list[Step] = []
    for spec in desired.services:
        record = services.get(spec.name)
        if spec.status == "stopped":
            if record is not None and record.state is not ServiceState.STOPPED:
                stops.append(Stop(spec.name))
        elif not _runs_already(spec, record, running):
            if Prepare(spec.image) not in prepares:
                prepares.append(Prepare(spec.image))
            switches.append(Switch(spec, _fallback(spec, record)))
    # Stops come before switches: a port may move from one service to another.
    return (*prepares, *stops, *switches)


def plan_rollback(record: ServiceRecord) -> tuple[Step, ...]:
    """The steps back to the last good image; none when there is none."""
    if record.last_good is None:
        return ()
    target = record.last_good.spec
    fallback = record.current.spec if record.current.outcome is Outcome.HEALTHY else None
    return (Prepare(target.image), Switch(target, fallback))


def _runs_already(spec: DesiredService, record: ServiceRecord | None, running: frozenset[str]) -> bool:
    return (
        record is not None
        and record.state is ServiceState.HEALTHY
        and record.current.spec == spec
        and spec.name in running
    )


def _fallback(spec: DesiredService, record: ServiceRecord | None) -> DesiredService | None:
    """What proved healthy last, and is not the very thing that is to be tried."""
    if record is None:
        return None
    candidates = [record.current, record.last_good]
    for one in candidates:
        if one is not None and one.outcome is Outcome.HEALTHY and one.spec != spec:
            return one.spec
    return None
