"""What the running agent knows of services that neither records nor a look tell: how often it started them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge_agent.daemon.publish import FILE
from edge_agent.daemon.single import runs
from edge_agent.device import Device
from edgepack.errors import EdgepackError
from edgepack.state.reported import ReportedDevice, ReportedService, ServiceState


def with_said(device: Device, services: Sequence[ReportedService]) -> tuple[ReportedService, ...]:
    """``services`` with what the device's agent has last reported of each, if an agent runs; writes nothing."""
    try:
        if not runs(device.root):
            return tuple(services)
        report = ReportedDevice.from_bytes((device.root / "state" / FILE).read_bytes())
    except (EdgepackError, OSError):  # it has reported nothing yet, or may not be read
        return tuple(services)
    said = {one.name: one for one in report.services}
    return tuple(_with(one, said[one.name]) if one.name in said else one for one in services)


def _with(seen: ReportedService, said: ReportedService) -> ReportedService:
    if said.digest != seen.digest:
        return seen
    # Why a service does not run now is known better by who watches it.
    troubled = ServiceState.HEALTHY not in (seen.state, said.state)
    reason = said.reason if troubled and said.reason is not None else seen.reason
    return replace(seen, restarts=said.restarts, exit_code=said.exit_code, reason=reason, percent=said.percent)
