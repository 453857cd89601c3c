"""The reported state of the device, from what is on record and what is seen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_agent.daemon.decide import Care, Running
from edge_agent.daemon.observe import Look
from edge_agent.daemon.records import Records
from edge_agent.device import Device
from edge_agent.reconcile.lack import with_kills
from edge_agent.reconcile.status import answered, coming, documents, named, unknown, url
from edge_agent.state.goals import Wanted
from edge_agent.state.records import ServiceRecord
from edgepack.state.reported import (
    Answer,
    ReportedDevice,
    ReportedProblem,
    ReportedService,
    ServiceState,
    Stage,
)
from edgepack.state.reported_endpoints import ReportedEndpoint

# A report is not made for less than this much of the disk.
_DISK_STEP = 64 << 20


@dataclass(frozen=True)
class Sight:
    """All that is known of one service beside its records."""

    look: Look | None = None
    care: Care | None = None
    job: Running | None = None
    percent: int | None = None


class Reporter:
    """Makes the reports of the device ``name``; the tags of images are looked up when the records change."""

    def __init__(self, device: Device, name: str, version: str) -> None:
        self._device = device
        self._name = name
        self._version = version
        self._names: dict[tuple[object, object], tuple[Mapping[Any, str], tuple[str, ...]]] = {}

    def forget_names(self) -> None:
        """Look the tags of images up again."""
        self._names.clear()

    def report(
        self,
        records: Records,
        sights: Mapping[str, Sight],
        problems: Sequence[ReportedProblem] = (),
        endpoints: Sequence[ReportedEndpoint] = (),
        *,
        session: int,
        time: float,
    ) -> ReportedDevice:
        """What the device is to report at the wall time ``time``."""
        services = [
            self._service(record, records.wanted, sights.get(name, Sight()))
            for name, record in records.services.items()
        ]
        wanted = records.wanted
        services += [
            _with_job(answered(unknown(name, wanted), wanted), sights.get(name, Sight()))
            for name in coming(wanted) - records.services.keys()
        ]
        services.sort(key=lambda one: one.name)
        if records.problem is not None:
            problems = (ReportedProblem(str(self._device.root), Answer.FAILED, records.problem), *problems)
        return ReportedDevice(
            self._name, self._version, session, time, _free(self._device), documents(records.wanted), tuple(services),
            tuple(problems), tuple(endpoints),
        )  # fmt: skip

    def _service(self, record: ServiceRecord, wanted: Wanted, sight: Sight) -> ReportedService:
        spec = record.current.spec
        state, reason = _state(record, sight)
        last_good = None if record.last_good is None else record.last_good.spec.image
        key = (spec.image, last_good)
        if key not in self._names:
            self._names[key] = named(self._device, [spec.image, *([] if last_good is None else [last_good])])
        tags, models = self._names[key]
        found = ReportedService(
            record.name, state, spec.image, last_good, spec.port, record.runtime, reason, tags.get(spec.image),
            None if last_good is None else tags.get(last_good), models,
            None if state in (ServiceState.STOPPED, ServiceState.REMOVED) else url(spec.address, spec.port),
            restarts=0 if sight.care is None else sight.care.history.total,
            exit_code=None if sight.look is None or sight.look.ended is None else sight.look.ended.exit_code,
        )  # fmt: skip
        found = _with_job(answered(found, wanted), sight)
        if record.state is not ServiceState.HEALTHY:
            return found
        if state is not ServiceState.HEALTHY:
            # It was brought to its goal, and something has happened to it since.
            failed = state is ServiceState.FAILED and found.status is Answer.OK
            found = replace(found, reason=reason, status=Answer.FAILED if failed else found.status)
        if sight.care is None or state not in (ServiceState.HEALTHY, ServiceState.UNHEALTHY):
            return found
        return with_kills(found, sight.care.kills, spec.memory_bytes)


def _with_job(found: ReportedService, sight: Sight) -> ReportedService:
    """The report with how far the job of the service is, which tells more than it has recorded."""
    if sight.job is None:
        return found
    return replace(
        found, stage=sight.job.stage, percent=sight.percent if sight.job.stage is Stage.DOWNLOADING else None
    )


def _state(record: ServiceRecord, sight: Sight) -> tuple[ServiceState, str | None]:
    """The state of a service and the reason."""
    if record.state is not ServiceState.HEALTHY:
        return record.state, record.reason
    look, care = sight.look, sight.care
    if look is None or care is None:
        return ServiceState.TRANSITIONING, "it was not looked at yet"
    history, checks = care.history, care.checks
    if look.alive is None:
        return ServiceState.UNHEALTHY, look.reason
    if not look.alive:
        if history.due is not None or care.left is None:
            return ServiceState.TRANSITIONING, care.left or "it is not running"
        return ServiceState.FAILED, care.left
    if look.fault is not None:
        return ServiceState.UNHEALTHY, f"it runs, but {look.fault}"
    if checks.last is None or not (checks.last.healthy or checks.failures):
        return ServiceState.TRANSITIONING, history.reason or "it was started, and is not healthy yet"
    if not checks.last.healthy:
        trouble = checks.trouble(record.current.spec.health_failures)
        return ServiceState.UNHEALTHY, care.left or (checks.last if trouble is None else trouble).reason
    return ServiceState.HEALTHY, history.reason or record.reason


def _free(device: Device) -> int | None:
    try:
        disk = os.statvfs(device.root)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def differs(report: ReportedDevice, before: ReportedDevice | None) -> bool:
    """Whether ``report`` tells what ``before`` has not: the time alone, and a little of the disk, are nothing new."""
    if before is None:
        return True
    if abs((report.free_bytes or 0) - (before.free_bytes or 0)) >= _DISK_STEP:
        return True
    return _lasting(report) != _lasting(before)


def _lasting(report: ReportedDevice) -> ReportedDevice:
    endpoints = tuple(one.uncounted for one in report.endpoints)
    return replace(report, time=0, free_bytes=None, endpoints=endpoints)
