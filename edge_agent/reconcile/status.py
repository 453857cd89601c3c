"""The state of every service: what was recorded, corrected by what its runtime and a health check show now."""

from __future__ import annotations

from edge_agent.device import Device
from edge_agent.reconcile.probe import alive, probe
from edge_agent.state.records import ServiceRecord
from edgepack.errors import EdgepackError
from edgepack.state.reported import ReportedService, ServiceState

_ATTEMPTS = 5


def status(device: Device) -> tuple[ReportedService, ...]:
    """Every service as it is now; changes nothing, and does not create the device's folder."""
    if not device.exists:
        return ()
    return tuple(_settled(device, record) for record in device.state.services().values())


def _settled(device: Device, record: ServiceRecord) -> ReportedService:
    """The report on a record that did not change meanwhile, for an update may be in progress."""
    for _ in range(_ATTEMPTS):
        found = _reported(device, record)
        now = device.state.services()[record.name]
        if now == record:
            break
        record = now
    return found


def _reported(device: Device, record: ServiceRecord) -> ReportedService:
    spec = record.current.spec
    state, reason = record.state, record.reason
    if state is ServiceState.HEALTHY:
        state, reason = _observed(device, record)
    elif state is ServiceState.TRANSITIONING:
        reason = (
            "a change is in progress"
            if device.busy
            else "the change was interrupted; run the same command again to finish it"
        )
    last_good = None if record.last_good is None else record.last_good.spec.image
    return ReportedService(record.name, state, spec.image, last_good, spec.port, record.runtime, reason)


def _observed(device: Device, record: ServiceRecord) -> tuple[ServiceState, str | None]:
    spec = record.current.spec
    try:
        instance = device.runtime_named(record.runtime).inspect(record.name)
    except EdgepackError as error:
        return ServiceState.UNHEALTHY, f"{record.runtime} does not answer ({error})"
    living = alive(instance)
    if not living.healthy:
        return ServiceState.FAILED, living.reason
    health = probe(spec.address, spec.port, spec.health_path)
    return (ServiceState.HEALTHY, record.reason) if health.healthy else (ServiceState.UNHEALTHY, health.reason)
