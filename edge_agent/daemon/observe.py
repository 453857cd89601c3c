"""What is seen of a service, and starting it again: what may wait for a disk, an engine or the service itself.

Each function is called on a thread of its own, so that the trouble of one service delays no other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.daemon.decide import Restart
from edge_agent.device import Device
from edge_agent.reconcile.probe import Health, probe
from edge_agent.reconcile.restarts import Ended, Kind
from edge_agent.runtimes.base import Watch, holding
from edge_agent.runtimes.kills import NONE, Kills, kills_of, read_kills
from edge_agent.state.records import ServiceRecord
from edgepack.errors import EdgepackError
from edgepack.state.reported import ServiceState

_log = logging.getLogger(__name__)
# A start does not wait for another command that changes the service: it is looked at again.
_PATIENCE_SECONDS = 1.0
# What does not answer need not be asked for long to end.
_END_SECONDS = 2.0
# What still runs, and is ended before it is started again.
_RUNNING = frozenset({Kind.HUNG, Kind.UNHEALTHY, Kind.FAULTY})


@dataclass(frozen=True)
class Look:
    """What was seen of a service at ``at``; ``alive`` is ``None`` when its runtime did not answer, for ``reason``.

    ``watch`` tells of its end, where that can be watched and was asked for; whoever gets it closes it. ``counters`` are
    the files that count the ``kills`` of what runs.
    """

    at: float
    alive: bool | None
    reason: str | None = None
    ended: Ended | None = None
    fault: str | None = None
    health: Health | None = None
    watch: Watch | None = None
    counters: tuple[Path, ...] = ()
    kills: Kills = NONE


def look(
    device: Device, record: ServiceRecord, *, check: bool, watch: bool, clock: Callable[[], float] = time.monotonic
) -> Look:
    """See whether the service runs as ``record`` says and, with ``check``, whether it is healthy.

    With ``watch`` its end is watched from before it is looked at, so that none is missed.
    """
    with ExitStack() as opened:
        found = _look(device, record, opened, check=check, watch=watch, clock=clock)
        if found.alive:
            opened.pop_all()
            return found
    return replace(found, watch=None)


def _look(
    device: Device, record: ServiceRecord, opened: ExitStack, *, check: bool, watch: bool, clock: Callable[[], float]
) -> Look:
    spec = record.current.spec
    try:
        runtime = device.runtime_named(record.runtime)
        watching = runtime.watch(record.name) if watch else None
        if watching is not None:
            opened.callback(watching.close)
        instance = runtime.inspect(record.name)
    except (EdgepackError, OSError) as error:
        return Look(clock(), None, f"{record.runtime} does not answer ({error})")
    if instance is None:
        return Look(clock(), alive=False)
    if instance.state != "running":
        return Look(clock(), alive=False, ended=Ended(instance.exit_code, instance.out_of_memory))
    fault = instance.fault
    if fault is None and instance.image is not None and not device.is_image(spec.image, instance.image):
        fault = f"it is another image, {instance.image}"
    health = probe(spec.address, spec.port, spec.health_path) if check and fault is None else None
    kills = kills_of(instance)
    return Look(clock(), True, fault=fault, health=health, watch=watching, counters=instance.counters, kills=kills)


def ask(device: Device, record: ServiceRecord, known: Look, *, clock: Callable[[], float] = time.monotonic) -> Look:
    """Ask a service for its health whose end is watched, so that nothing else need be looked at while it answers."""
    spec = record.current.spec
    health = probe(spec.address, spec.port, spec.health_path)
    if health.healthy:
        kills = read_kills(known.counters) if known.counters else known.kills
        return replace(known, at=clock(), health=health, watch=None, kills=kills)
    return replace(look(device, record, check=False, watch=False, clock=clock), health=health)


@dataclass(frozen=True)
class Started:
    """How a start ended: ``refused`` says why it failed; ``lacking`` that what it is started from has to be mended.

    Neither where it was not tried, because another command is changing the service.
    """

    refused: str | None = None
    lacking: bool = False


def start_again(device: Device, action: Restart) -> Started:
    """Start the service of ``action`` when it is still on record as it was."""
    with ExitStack() as held:
        try:
            held.enter_context(device.using(action.service, patience_seconds=_PATIENCE_SECONDS))
        except (EdgepackError, OSError) as error:
            _log.debug("service %s is not started now: %s", action.service, error)
            return Started()
        try:
            device.make_room()  # a full disk must not keep a service from being started again
            return _start(device, action)
        except (EdgepackError, OSError) as error:
            return Started(refused=f"it cannot be started ({error})", lacking=True)


def _start(device: Device, action: Restart) -> Started:
    record = device.state.services().get(action.service)
    if record is None or record.current.id != action.deployment or record.state is not ServiceState.HEALTHY:
        return Started()  # another command has changed it meanwhile
    spec = record.current.spec
    runtime = device.runtime_named(record.runtime)
    with holding(runtime, action.service):
        if action.trouble.kind in _RUNNING:
            runtime.stop(action.service, _END_SECONDS)
        runtime.start(replace(spec, image=device.manifest_of(spec.image)))
    return Started()
