"""What runs: what was written down, held against what each service's runtime and a probe say now."""

from __future__ import annotations

from edge_agent.device import Device
from edge_agent.reconcile.probe import probe
from edge_agent.state.records import ServiceRecord
from edgepack.errors import EdgepackError
from edgepack.state.reported import ReportedService, ServiceState

_LOOKS = 5


def status(device: Device) -> tuple[ReportedService, ...]:
    """Every service as it is now; changes nothing, not even a device's folder that is not there yet."""
    if not device.exists:
        return ()
    return tuple(_settled(device, record) for record in device.state.services().values())


def _settled(device: Device, record: ServiceRecord) -> ReportedService:
    """What is seen, once nothing was written down while it was looked at: an update may be under way."""
    for _ in range(_LOOKS):
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
        state, reason = _seen(device, record)
    elif state is ServiceState.TRANSITIONING:
        reason = (
            "an edge-agent is at work on it"
            if device.busy
            else "the agent was interrupted; run the same command again, and it will finish"
        )
    last_good = None if record.last_good is None else record.last_good.spec.image
    return ReportedService(record.name, state, spec.image, last_good, spec.port, record.runtime, reason)


def _seen(device: Device, record: ServiceRecord) -> tuple[ServiceState, str | None]:
    spec = record.current.spec
    try:
        instance = device.runtime_named(record.runtime).inspect(record.name)
    except EdgepackError as error:
        return ServiceState.UNHEALTHY, f"{record.runtime} cannot be asked ({error})"
    if instance is None or instance.state != "running":
        code = None if instance is None else instance.exit_code
        return ServiceState.FAILED, "it does not run" if code is None else f"it exited with code {code}"
    health = probe(spec.address, spec.port, spec.health_path)
    return (ServiceState.HEALTHY, record.reason) if health.healthy else (ServiceState.UNHEALTHY, health.reason)
