"""From desired and current state to steps; pure.

Rules: everything is prepared before anything is stopped; a service that already runs as desired is left alone; a
service that the document does not name is left alone, and keeps its port. What must be so before a step is taken is
declared on the step (``gates``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edge_agent.config.configuration import Updates
from edge_agent.reconcile.gates import DiskSpace, Gate, MainsPower, Memory, Unlocked, UpdateWindow
from edge_agent.state.goals import Goal, Stage
from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.reported import ServiceState
from edgepack.state.topics import COMMAND

# States in which nothing of the service runs, so that its port is free.
_IDLE = (ServiceState.STOPPED, ServiceState.REMOVED, ServiceState.FAILED)
_ENDED = {"stopped": ServiceState.STOPPED, "removed": ServiceState.REMOVED}
_SETTLED = (Stage.DONE, Stage.FAILED)


@dataclass(frozen=True)
class Fetch:
    """Have an image in the device's store; what is here already is not fetched."""

    service: str
    image: Digest
    gates: tuple[Gate, ...] = ()


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
    gates: tuple[Gate, ...] = ()


Step = Fetch | Prepare | Stop | Switch


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
        if spec.status != "running" and spec.name in services and services[spec.name].state is not _ENDED[spec.status]
    ]
    # A port may move from one service to another: the one that has it is stopped first.
    stops += [Stop(name) for name in _colliding(wanted, services)]
    switches = [Switch(spec, _fallback(spec, services)) for spec in wanted]
    return (*prepares, *stops, *switches)


def plan_goal(
    goal: Goal, services: Mapping[str, ServiceRecord], updates: Updates, floor_bytes: int
) -> tuple[Step, ...]:
    """The steps to the ``goal`` of one service, with what must be so before each of them.

    What an operator asks for on the device is done when it is asked for. ``updates`` are about exchanging a version
    that runs: nothing is gained by letting a service wait of which nothing runs.
    """
    spec, record = goal.spec, services.get(goal.service)
    if spec.status != "running":
        return () if record is None or record.state is _ENDED[spec.status] else (Stop(spec.name),)
    fetch_gates: tuple[Gate, ...] = (DiskSpace(floor_bytes),)
    switch_gates: tuple[Gate, ...] = ()
    keys_alone = record is not None and record.current.spec.with_other_keys(spec)  # which touches nothing that runs
    if goal.origin != COMMAND and record is not None and record.state not in _IDLE and not keys_alone:
        switch_gates = (
            Memory(updates.free_memory_bytes), UpdateWindow(updates.windows), Unlocked(),
            *([MainsPower()] if updates.power == "mains" else []),
        )  # fmt: skip
    return (
        Fetch(spec.name, spec.image, fetch_gates),
        Prepare(spec.name, spec.image),
        Switch(spec, _fallback(spec, services), gates=switch_gates),
    )


def plan_rollback(record: ServiceRecord) -> tuple[Step, ...]:
    """The steps back to the last good image, or to the version that ran when it was removed; empty without one."""
    target = rollback_target(record)
    if target is None:
        return ()
    return (
        Prepare(record.name, target.spec.image),
        Switch(target.spec, record.fallback(target.spec), returning=True),
    )


def rollback_target(record: ServiceRecord) -> Deployment | None:
    """What a rollback returns to."""
    if record.state is ServiceState.REMOVED:
        return next(iter(record.healthy), None)
    return record.last_good


def good_for(record: ServiceRecord, goal: Goal) -> Deployment | None:
    """What the service returns to from ``goal``: a return that was begun, or else the newest healthy other one."""
    if goal.reason is None and goal.stage is Stage.RETURNING:
        return next((one for one in record.healthy if one.spec == goal.spec), record.current)
    return record.current if record.current.outcome is Outcome.RETURNING else record.fallback(goal.spec)


def resumed(record: ServiceRecord) -> Deployment | None:
    """What to run of a service whose change was interrupted."""
    if record.current.outcome is Outcome.RETURNING:
        return record.current
    same = next((one for one in record.healthy if one.spec == record.current.spec), None)
    return same or record.fallback(record.current.spec)


@dataclass(frozen=True)
class Ports:
    """Who changes with a service because of ports: ``together`` must switch at once, itself among them.

    ``waits`` is why it cannot change now, ``None`` when it can.
    """

    together: frozenset[str]
    waits: str | None = None


def ports(name: str, services: Mapping[str, ServiceRecord], goals: Mapping[str, Goal]) -> Ports:
    """Whether the port that the goal of service ``name`` needs is free, or will be.

    A service that is to leave it goes first, so that it can still return to it when it fails. Those that need each
    other's ports change together.
    """
    holders = {one: _holders(one, services, goals) for one in goals}
    reached = {one: _reach(one, holders) for one in goals}
    together = frozenset(one for one in reached[name] | {name} if one == name or name in reached.get(one, ()))
    for one in (name, *sorted(together - {name})):
        for holder in sorted(holders[one] - together):
            spec = goals[one].spec
            still = " still" if _leaves(goals.get(holder), spec) else ""
            return Ports(together, f"port {spec.port} is{still} that of service {holder}")
    return Ports(together)


def _holders(name: str, services: Mapping[str, ServiceRecord], goals: Mapping[str, Goal]) -> frozenset[str]:
    """The other services that have the port which ``name`` is to get."""
    goal = goals[name]
    if goal.stage in _SETTLED:
        return frozenset()
    return frozenset(one.name for one in port_holders(goal.spec, services))


def _leaves(goal: Goal | None, spec: DesiredService) -> bool:
    if goal is None or goal.stage in _SETTLED:
        return False
    return goal.spec.status != "running" or not goal.spec.collides(spec)


def _reach(name: str, links: Mapping[str, Collection[str]]) -> frozenset[str]:
    found: set[str] = set()
    left = [name]
    while left:
        new = set(links.get(left.pop(), ())) - found
        found |= new
        left += new
    return frozenset(found)


def conflicts(desired: Desired, services: Mapping[str, ServiceRecord]) -> tuple[str, ...]:
    """The conflicts of ``desired`` with services that it does not name, over ports."""
    return tuple(
        f"service {spec.name!r} needs port {spec.port} of service {record.name!r}, which the document does not name"
        for spec in desired.services
        for record in port_holders(spec, services)
        if record.name not in {one.name for one in desired.services}
    )


def port_holders(spec: DesiredService, services: Mapping[str, ServiceRecord]) -> tuple[ServiceRecord, ...]:
    """The other services that have the port of ``spec`` now."""
    return tuple(
        one
        for one in services.values()
        if spec.status == "running"
        and one.name != spec.name
        and one.state not in _IDLE
        and spec.collides(one.current.spec)
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
