"""Carries out the steps of a plan on the runtimes; each intention is recorded before its effect.

The caller uses the services that are changed (``Device.using``). ``Preparing`` is what can be done, and can fail, while
the version that runs goes on; ``Switching`` is what follows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from edge_agent.device import IMPORT_AGAIN, Device
from edge_agent.reconcile.looking import Looking
from edge_agent.reconcile.plan import Prepare, Step, Stop, Switch
from edge_agent.reconcile.probe import Health
from edge_agent.reconcile.progress import Progress
from edge_agent.reconcile.starting import Starting, without_service
from edge_agent.runtimes.base import Foreseeing, Runtime, holding
from edge_agent.state.goals import Goal, Stage
from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edge_agent.upgrade.install import refuse_agent
from edgepack.errors import EdgepackError, RuntimeFailedError, VerificationError
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.reported import ServiceState

_log = logging.getLogger(__name__)


class Preparing:
    """Everything that can fail before anything is stopped."""

    def __init__(self, device: Device, looking: Looking, *, allow_unsigned: bool) -> None:
        self._device = device
        self._looking = looking
        self._allow_unsigned = allow_unsigned

    def prepare(
        self, steps: Sequence[Step], services: Mapping[str, ServiceRecord], leaving: Collection[str] = ()
    ) -> None:
        """Verify and prepare what ``steps`` need, and see whether what they start could be started.

        The services ``leaving`` will have left their ports by then.
        """
        stopped = {step.service for step in steps if isinstance(step, Stop)} | {*leaving}
        for step in steps:
            match step:
                case Prepare(name, image):
                    # Before an image is missed that would then be downloaded for nothing.
                    self._device.check_place(services.get(name))
                    self._device.check_signed(image, allow_unsigned=self._allow_unsigned)
                    self.prepare_image(self._device.runtime_for(services.get(name)), image)
                case Stop(name):
                    if name in services:
                        self._device.runtime_named(services[name].runtime)
                case Switch(spec):
                    if spec.name in services:
                        self._device.runtime_named(services[spec.name].runtime)
                    self._foresee(spec, [services[name] for name in {spec.name, *stopped} if name in services])

    def prepare_image(self, runtime: Runtime, image: Digest) -> None:
        """Let ``runtime`` prepare ``image``; an altered blob of it is told with the way out."""
        try:
            refuse_agent(self._device, image)
            runtime.prepare(self._device.manifest_of(image))
        except VerificationError as error:
            raise VerificationError(
                error.what, where=error.where or f"image {image}", hint=error.hint or IMPORT_AGAIN
            ) from error

    def _foresee(self, spec: DesiredService, ending: Sequence[ServiceRecord]) -> None:
        """Raise what would keep ``spec`` from being started once the services ``ending`` have been stopped.

        Where nothing of the service runs there is nothing to lose: it is tried, and on record.
        """
        record = next((one for one in ending if one.name == spec.name), None)
        runtime = self._device.runtime_for(record)
        if record is not None and self._looking.runs(record) and isinstance(runtime, Foreseeing):
            held = any(spec.collides(one.current.spec) and self._looking.runs(one) for one in ending)
            runtime.check(replace(spec, image=self._device.manifest_of(spec.image)), held=held)


class Switching:
    """Stops and starts services, and returns to what was good."""

    def __init__(self, device: Device, looking: Looking, preparing: Preparing, progress: Progress) -> None:
        self._device = device
        self._looking = looking
        self._preparing = preparing
        self._progress = progress
        self._starting = Starting(device, looking)

    def change(
        self, steps: Sequence[Step], services: Mapping[str, ServiceRecord], goals: Mapping[str, Goal]
    ) -> dict[str, RuntimeFailedError]:
        """Carry out what ``steps`` stop and switch, with the ``goals`` that they lead to; returns what failed."""
        failed: dict[str, RuntimeFailedError] = {}
        for step in steps:
            match step:
                case Stop(name):
                    self.stop(services[name], goals.get(name))
                case Switch():
                    name = step.spec.name
                    failure = self.switch(step, services.get(name), goals.get(name))
                    failed |= {} if failure is None else {name: failure}
        return failed

    def stop(self, record: ServiceRecord, goal: Goal | None) -> None:
        """Stop a service, for good where that is its ``goal``, and else to start it again."""
        for_good = goal is not None and goal.spec.status != "running"
        removed = goal is not None and goal.spec.status == "removed"
        if goal is not None and for_good:
            goal = self._progress.enter(goal, Stage.SWITCHING)
        self._device.state.stopping(record)
        self._device.runtime_named(record.runtime).stop(record.name)
        ended = record.current.outcome not in (Outcome.TRYING, Outcome.RETURNING)
        outcome = record.current.outcome if ended else Outcome.FAILED
        state = ServiceState.REMOVED if removed else ServiceState.STOPPED
        self._device.state.finish(record.current, outcome, state, None)
        if goal is not None and for_good:
            self._progress.enter(goal, Stage.DONE)

    def switch(self, step: Switch, record: ServiceRecord | None, goal: Goal | None) -> RuntimeFailedError | None:
        """Run what ``step`` says; where it has to prove itself, ``goal`` is on probation then, and else it is done.

        What does not become healthy is left for the fallback, and the failure returned.
        """
        spec, state, runtime = step.spec, self._device.state, self._device.runtime_for(record)
        if goal is not None and not step.returning:
            goal = self._progress.enter(goal, Stage.SWITCHING)
            if goal is None:
                return None
        _log.info("service %s: starting image %s by %s", spec.name, spec.image, runtime.name)
        holder = runtime if record is None else self._device.runtime_named(record.runtime)
        deployment = state.begin(spec, runtime.name, holder=holder.name, returning=step.returning)
        if holder.name != runtime.name:
            holder.stop(spec.name)
            state.moved(deployment)
        runs_on = record is not None and holder is runtime and self._needs_keys_alone(record, spec, runtime)
        with holding(runtime, spec.name):
            tried = self._starting.start(spec, runtime, runs_on=runs_on)
            if not tried.health.healthy:
                reason = tried.health.reason
                return self.fall_back(deployment, step.fallback, goal, reason, runs_on=tried.others_run)
        if spec.probation_seconds and not step.returning and goal is not None:
            self._enter(goal, Stage.PROBATION)
            return None
        state.finish(deployment, Outcome.HEALTHY, ServiceState.HEALTHY, None)
        self._enter(goal, Stage.DONE)
        return None

    def _needs_keys_alone(self, record: ServiceRecord, spec: DesiredService, runtime: Runtime) -> bool:
        """Whether what runs is healthy, and lacks only what its callers are to show."""
        now = record.current.spec
        is_good = record.state is ServiceState.HEALTHY and now.with_other_keys(spec)
        return is_good and self._looking.once(now, runtime).healthy

    def count(self, record: ServiceRecord, wanted: DesiredService) -> None:
        """Let what runs count as good, of a service whose change was interrupted and that is to be ``wanted`` now.

        Else nobody could return to it, and its image would go. Only where it answers; one that was still to prove
        itself counts where nothing else is good.
        """
        now = record.current
        unproven = bool(now.spec.probation_seconds) and bool(record.healthy)
        known = any(
            one.spec.image == now.spec.image for one in record.healthy
        )  # and older settings of it may still run
        if record.state is not ServiceState.TRANSITIONING or now.spec == wanted or known or unproven:
            return
        runtime = self._device.runtime_named(record.runtime)
        instance = runtime.inspect(record.name)
        if instance is None or instance.image is None or not self._device.is_image(now.spec.image, instance.image):
            return
        if self._looking.once(now.spec, runtime).healthy:
            _log.info("service %s: image %s answers, and counts as good", record.name, now.spec.image)
            self._device.state.finish(now, Outcome.HEALTHY, ServiceState.HEALTHY, None)

    def fall_back(
        self, failed: Deployment, fallback: Deployment | None, goal: Goal | None, reason: str, *, runs_on: bool = False
    ) -> RuntimeFailedError:
        """Leave what ``failed`` for its ``fallback``; the image is not tried again before it is asked for anew.

        ``runs_on``: what ran before it still runs.
        """
        state, spec = self._device.state, failed.spec
        if fallback is None:
            if runs_on:  # and was never good
                self._device.runtime_named(failed.runtime).stop(spec.name)
            state.finish(failed, Outcome.FAILED, ServiceState.FAILED, reason)
            self._give_up(goal, failed, reason)
            hint = "there is no earlier image to roll back to"
            return RuntimeFailedError(reason, where=f"service {spec.name}", hint=hint)
        failed = state.judge(failed, Outcome.FAILED)
        goal = self._enter(goal, Stage.RETURNING, reason)
        error, told = self._return_to(fallback, failed, reason, runs_on=runs_on)
        self._give_up(goal, failed, told)
        return error

    def _return_to(
        self, good: Deployment, failed: Deployment, failure: str, *, runs_on: bool
    ) -> tuple[RuntimeFailedError, str]:
        """Run ``good`` again; the error to raise, and the reason that is recorded."""
        spec, where = good.spec, f"service {good.spec.name}"
        # The image is not to blame where it is the same.
        changed = spec.settings_changed(failed.spec) if spec.image == failed.spec.image else ""
        what = f"{changed or f'image {failed.spec.image}'} failed ({failure})"
        goal = "its earlier settings" if changed else str(spec.image)
        _log.warning("%s: %s; rolling back to %s", where, what, goal)
        reason = f"{what}; rolled back to {'its earlier settings' if changed else 'the last good one'}"
        health = self.restore(good, reason, lambda seen: f"{what}, and so did {goal} ({seen})", runs_on=runs_on)
        if health.healthy:
            return RuntimeFailedError(failure, where=where, hint=f"rolled back to {goal}"), reason
        hint = "read its log and apply another image"
        return RuntimeFailedError(health.reason, where=where, hint=hint), health.reason

    def restore(
        self, good: Deployment, reason: str | None, otherwise: Callable[[str], str], *, runs_on: bool = False
    ) -> Health:
        """Run ``good``, which ran before, with ``reason`` on record; ``otherwise`` makes the reason when it fails.

        ``runs_on``: something of the service runs that is left alone where it is ``good``.
        """
        spec = good.spec
        back = self._device.state.begin(spec, good.runtime, returning=True)
        try:
            # It ran here before, so its signature or --allow-unsigned is not asked for again.
            runtime = self._device.runtime_named(good.runtime)
            self._preparing.prepare_image(runtime, spec.image)
            with holding(runtime, spec.name):
                health = self._starting.start(spec, runtime, runs_on=runs_on).health
        except (EdgepackError, OSError) as error:
            health = Health(False, without_service(error, spec.name))
        if health.healthy:
            self._device.state.finish(back, Outcome.HEALTHY, ServiceState.HEALTHY, reason)
            return health
        told = otherwise(health.reason)
        self._device.state.finish(back, Outcome.FAILED, ServiceState.FAILED, told)
        return Health(False, told)

    def _give_up(self, goal: Goal | None, failed: Deployment, reason: str) -> None:
        """Record that ``goal`` failed, and keep its image from being tried again by itself."""
        self.quarantine(failed.spec.image, reason)
        self._enter(goal, Stage.FAILED, reason)

    def quarantine(self, image: Digest, reason: str) -> None:
        """Keep ``image`` from being tried again by itself; one that has run well here is not to blame."""
        records = self._device.state.services().values()
        if not any(image == good.spec.image for one in records for good in one.healthy):
            self._device.state.quarantine(image, reason)

    def _enter(self, goal: Goal | None, stage: Stage, reason: str | None = None) -> Goal | None:
        return None if goal is None else self._progress.enter(goal, stage, reason)
