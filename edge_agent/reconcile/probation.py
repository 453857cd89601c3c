"""Probation: after a switch the new version must stay healthy for a while before the earlier one is given up.

The service's lock is held at the beginning and at the end only: a command need not wait for a probation.
"""

from __future__ import annotations

from dataclasses import replace

from edge_agent.device import Device
from edge_agent.reconcile.looking import Clock, Looking
from edge_agent.reconcile.probe import Health
from edge_agent.reconcile.progress import Progress
from edge_agent.reconcile.starting import last_words, without_service
from edge_agent.reconcile.switching import Switching
from edge_agent.runtimes.base import holding
from edge_agent.state.goals import Goal, Stage
from edge_agent.state.records import Outcome, ServiceRecord
from edgepack.errors import EdgepackError, RuntimeFailedError
from edgepack.state.reported import ServiceState

# The shortest time between two checks.
_LEAST_PAUSE_SECONDS = 0.1


class Proving:
    """Watches services of ``device`` that are on probation."""

    def __init__(
        self, device: Device, looking: Looking, switching: Switching, progress: Progress, clock: Clock
    ) -> None:
        self._device = device
        self._looking = looking
        self._switching = switching
        self._progress = progress
        self._clock = clock

    def prove(self, goal: Goal) -> RuntimeFailedError | None:
        """Watch a service that is on ``PROBATION``: then it is done, or left for what was good; returns the failure.

        The running agent and a command may watch the same one: the first to see how it ends acts, both return it.
        """
        record = self._device.state.services().get(goal.service)
        if record is None:
            self._progress.enter(goal, Stage.FAILED, "its record is missing")
            return None
        health = self._started(goal, record) or self._watched(goal, record)
        if health is None and not self._progress.is_current(goal):
            return None
        with self._device.using(goal.service):
            now = self._progress.goal(goal.service)
            found = self._device.state.services().get(goal.service)
            if now is None or now.number != goal.number:
                return None
            if now.stage in (Stage.RETURNING, Stage.FAILED) and now.reason is not None:
                return RuntimeFailedError(now.reason, where=f"service {goal.service}")
            if health is None or now.stage is not Stage.PROBATION:
                return None
            if found is None or found.current.id != record.current.id:
                return None
            if health.healthy:
                self._device.state.finish(found.current, Outcome.HEALTHY, ServiceState.HEALTHY, None)
                self._progress.enter(now, Stage.DONE)
                return None
            runtime = self._device.runtime_named(found.runtime)
            reason = f"not healthy on probation: {health.reason}{last_words(runtime, goal.service)}"
            with holding(runtime, goal.service):
                runtime.stop(goal.service)
                return self._switching.fall_back(found.current, found.fallback(goal.spec), now, reason)

    def _started(self, goal: Goal, record: ServiceRecord) -> Health | None:
        """Start what was on probation when the device went down; its health where it does not become healthy."""
        if self._looking.runs(record):
            return None
        with self._device.using(goal.service):
            now = self._device.state.services().get(goal.service)
            if now is None or now.current.id != record.current.id or not self._progress.is_current(goal):
                return None
            runtime = self._device.runtime_named(record.runtime)
            try:
                manifest = self._device.manifest_of(goal.spec.image)
                runtime.prepare(manifest)
                runtime.start(replace(goal.spec, image=manifest))
                health = self._looking.wait(goal.spec, runtime, goal.spec.health_timeout_seconds)
            except (EdgepackError, OSError) as error:
                return Health(False, without_service(error, goal.service))
            return None if health.healthy else health

    def _watched(self, goal: Goal, record: ServiceRecord) -> Health | None:
        """The health over the whole probation; ``None`` when it is over, or something else is desired meanwhile."""
        spec, runtime = goal.spec, self._device.runtime_named(record.runtime)
        end = self._clock.now() + spec.probation_seconds
        pause = max(0.1, min(spec.health_interval_seconds, spec.probation_seconds / 10))
        failures = 0
        while True:
            now = self._progress.goal(goal.service)
            if now is None or now.number != goal.number or now.stage is not Stage.PROBATION:
                return None
            health = self._looking.once(spec, runtime)
            failures = 0 if health.healthy else failures + 1
            if failures >= spec.health_failures or (failures and not self._looking.runs(record)):
                return health
            if self._clock.now() >= end and not failures:
                return health
            self._clock.sleep(pause)
