"""Executes the steps of a plan; each intention is recorded before its effect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_agent.device import IMPORT_AGAIN, Device
from edge_agent.reconcile.plan import Prepare, Step, Stop, Switch, conflicts, plan, plan_rollback
from edge_agent.reconcile.probe import Health, alive, probe, wait_healthy
from edge_agent.reconcile.space import give_back
from edge_agent.runtimes.base import Foreseeing, Runtime
from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edgepack.errors import (
    EdgepackError,
    NotFoundError,
    RuntimeFailedError,
    UsageError,
    VerificationError,
)
from edgepack.limits import LIMITS
from edgepack.nearness import did_you_mean
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.reported import ServiceState
from edgepack.text import printable

_log = logging.getLogger(__name__)
# A running service has this long to answer before it is started again.
_PATIENCE_SECONDS = 5.0
_LAST_LINE_CHARACTERS = 200


@dataclass(frozen=True)
class Clock:
    """A clock that tests can replace."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Runner:
    """Brings ``device`` to its desired state."""

    def __init__(
        self, device: Device, *, allow_unsigned: bool = False, reset_serial: bool = False, clock: Clock | None = None
    ) -> None:
        self._device = device
        self._reset_serial = reset_serial
        self._allow_unsigned = allow_unsigned
        self._clock = clock or Clock()

    def apply(self, desired: Desired) -> tuple[Step, ...]:
        """Make the device run ``desired``; returns the steps that were needed.

        A service that does not become healthy is rolled back to what was healthy before, and ``RuntimeFailedError`` is
        raised once the others are done. Raises ``VerificationError`` for an older serial, none where one was accepted
        before, one that is far too high (unless the serial is reset), or an unsigned image,
        ``NotFoundError`` for an image that was not imported, ``UsageError`` for a port that another service has;
        nothing has been stopped then.
        """
        with self._device.changing():
            self._check_serial(desired)
            services = self._device.state.services()
            if wrong := conflicts(desired, services):
                raise UsageError(
                    "; ".join(wrong), where="desired state", hint="name that service too, or choose another port"
                )
            steps = plan(desired, services, self._healthy(desired, services))
            self._prepare(steps, services)
            if desired.serial is None and self._reset_serial:
                self._device.state.clear_serial()
            if desired.serial is not None:
                # Accepted from here on, however it ends: an older document must not undo what a newer one began.
                self._device.state.set_serial(desired.serial, Digest.of(desired.to_bytes()))
            self._change(steps, services)
            self._give_back()
        return steps

    def rollback(self, name: str) -> DesiredService:
        """Return service ``name`` to its last good image and run it; raises ``NotFoundError`` without one.

        Of two at once the second finds it done. Raises ``RuntimeFailedError`` when another command has brought the
        service to something else meanwhile.
        """
        if not self._device.exists:
            raise NotFoundError("no services are recorded", where=self._device.root, hint="check --state-dir")
        asked = self._device.services().get(name)
        with self._device.changing():
            self._device.make_room()
            services = self._device.state.services()
            record = services.get(name)
            if record is None:
                hint = did_you_mean(name, services, f"services: {', '.join(services) or 'none'}")
                raise NotFoundError(f"service {name!r} not found", where=self._device.root, hint=hint)
            if asked is not None and _returned_meanwhile(asked, record):
                _log.info("service %s: another command has returned it to %s", name, record.current.spec.image)
                return record.current.spec
            steps = plan_rollback(record)
            if record.last_good is None or not steps:
                raise NotFoundError(
                    "has no earlier image that was healthy", where=f"service {name}", hint="apply another image"
                )
            self._prepare(steps, services)
            self._change(steps, services)
            return record.last_good.spec

    def _give_back(self) -> None:
        """Remove what nothing needs any more; the desired state has been reached whether or not that works."""
        try:
            give_back(self._device)
        except (EdgepackError, OSError) as error:
            _log.warning("what is not needed any more cannot be removed now: %s", error)

    def _check_serial(self, desired: Desired) -> None:
        last = self._device.state.serial()
        if self._reset_serial or (last is None and desired.serial is None):
            return
        serial, digest = last or (0, None)
        if desired.serial is None:
            problem = f"it has no serial, and this device has accepted serial {serial}"
        elif desired.serial > serial + LIMITS.serial_step:
            raise VerificationError(
                f"serial {desired.serial} is more than {LIMITS.serial_step} above {serial}, and would shut out all that"
                " come after it", where="desired state", hint="give it a lower serial, such as a number that counts up",
            )  # fmt: skip
        elif desired.serial < serial:
            problem = f"serial {desired.serial} is older than serial {serial}, which this device has accepted"
        elif desired.serial == serial and Digest.of(desired.to_bytes()) != digest:
            problem = f"this device has accepted serial {serial} with other content"
        else:
            return
        raise VerificationError(problem, where="desired state", hint=f"give it a serial above {serial}")

    def _healthy(self, desired: Desired, services: Mapping[str, ServiceRecord]) -> frozenset[str]:
        """The services that run as ``desired`` says, by the right runtime, and are healthy."""
        found = set()
        for spec in desired.services:
            record = services.get(spec.name)
            if record is None or record.state is not ServiceState.HEALTHY or record.current.spec != spec:
                continue
            runtime = self._device.runtime_for(record)
            patience = min(_PATIENCE_SECONDS, spec.health_timeout_seconds)
            if runtime.name != record.runtime or not self._wait(spec, runtime, patience).healthy:
                continue
            instance = runtime.inspect(spec.name)
            if instance is None or instance.image is None or instance.fault is not None:
                continue
            if self._device.is_image(spec.image, instance.image):
                found.add(spec.name)
        return frozenset(found)

    def _prepare(self, steps: Sequence[Step], services: Mapping[str, ServiceRecord]) -> None:
        """Do everything that can fail before anything is stopped."""
        stopped = {step.service for step in steps if isinstance(step, Stop)}
        for step in steps:
            match step:
                case Prepare(name, image):
                    self._device.check_signed(image, allow_unsigned=self._allow_unsigned)
                    runtime = self._device.runtime_for(services.get(name))
                    self._prepare_image(runtime, image)
                case Stop(name):
                    if name in services:
                        self._device.runtime_named(services[name].runtime)
                case Switch(spec):
                    if spec.name in services:
                        self._device.runtime_named(services[spec.name].runtime)
                    self._foresee(spec, [services[name] for name in {spec.name, *stopped} if name in services])

    def _foresee(self, spec: DesiredService, ending: Sequence[ServiceRecord]) -> None:
        """Raise what would keep ``spec`` from being started once the services ``ending`` have been stopped.

        Where nothing of the service runs there is nothing to lose: it is tried, and on record.
        """
        record = next((one for one in ending if one.name == spec.name), None)
        runtime = self._device.runtime_for(record)
        if record is not None and self._runs(record) and isinstance(runtime, Foreseeing):
            held = any(spec.collides(one.current.spec) and self._runs(one) for one in ending)
            runtime.check(replace(spec, image=self._device.manifest_of(spec.image)), held=held)

    def _runs(self, record: ServiceRecord) -> bool:
        instance = self._device.runtime_named(record.runtime).inspect(record.name)
        return instance is not None and instance.state == "running"

    def _prepare_image(self, runtime: Runtime, image: Digest) -> None:
        try:
            runtime.prepare(self._device.manifest_of(image))
        except VerificationError as error:
            raise VerificationError(
                error.what, where=error.where or f"image {image}", hint=error.hint or IMPORT_AGAIN
            ) from error

    def _change(self, steps: Sequence[Step], services: Mapping[str, ServiceRecord]) -> None:
        failures: list[RuntimeFailedError] = []
        for step in steps:
            match step:
                case Stop(name):
                    self._stop(services[name])
                case Switch():
                    failure = self._switch(step, services.get(step.spec.name))
                    failures += [] if failure is None else [failure]
        if len(failures) > 1:
            raise RuntimeFailedError("; ".join(str(one) for one in failures))
        if failures:
            raise failures[0]

    def _stop(self, record: ServiceRecord) -> None:
        self._device.state.stopping(record)
        self._device.runtime_named(record.runtime).stop(record.name)
        ended = record.current.outcome not in (Outcome.TRYING, Outcome.RETURNING)
        outcome = record.current.outcome if ended else Outcome.FAILED
        self._device.state.finish(record.current, outcome, ServiceState.STOPPED, None)

    def _switch(self, step: Switch, record: ServiceRecord | None) -> RuntimeFailedError | None:
        spec, state, runtime = step.spec, self._device.state, self._device.runtime_for(record)
        _log.info("service %s: starting image %s by %s", spec.name, spec.image, runtime.name)
        holder = runtime if record is None else self._device.runtime_named(record.runtime)
        deployment = state.begin(spec, runtime.name, holder=holder.name, returning=step.returning)
        if holder.name != runtime.name:
            holder.stop(spec.name)
            state.moved(deployment)
        health = self._try(spec, runtime)
        if health.healthy:
            state.finish(deployment, Outcome.HEALTHY, ServiceState.HEALTHY, None)
            return None
        if step.fallback is None:
            state.finish(deployment, Outcome.FAILED, ServiceState.FAILED, health.reason)
            hint = "there is no earlier image to roll back to"
            return RuntimeFailedError(health.reason, where=f"service {spec.name}", hint=hint)
        return self._return_to(step.fallback, state.judge(deployment, Outcome.FAILED), health.reason)

    def _return_to(self, good: Deployment, failed: Deployment, failure: str) -> RuntimeFailedError:
        spec, where = good.spec, f"service {good.spec.name}"
        # The image is not to blame where it is the same.
        changed = spec.settings_changed(failed.spec) if spec.image == failed.spec.image else ""
        what = f"{changed or f'image {failed.spec.image}'} failed ({failure})"
        goal = "its earlier settings" if changed else str(spec.image)
        _log.warning("%s: %s; rolling back to %s", where, what, goal)
        back = self._device.state.begin(spec, good.runtime, returning=True)
        try:
            # It ran here before, so its signature or --allow-unsigned is not asked for again.
            runtime = self._device.runtime_named(good.runtime)
            self._prepare_image(runtime, spec.image)
            health = self._try(spec, runtime)
        except (EdgepackError, OSError) as error:
            health = Health(False, str(error))
        if health.healthy:
            reason = f"{what}; rolled back to {'its earlier settings' if changed else 'the last good one'}"
            self._device.state.finish(back, Outcome.HEALTHY, ServiceState.HEALTHY, reason)
            return RuntimeFailedError(failure, where=where, hint=f"rolled back to {goal}")
        reason = f"{what}, and so did {goal} ({health.reason})"
        self._device.state.finish(back, Outcome.FAILED, ServiceState.FAILED, reason)
        return RuntimeFailedError(reason, where=where, hint="read its log and apply another image")

    def _try(self, spec: DesiredService, runtime: Runtime) -> Health:
        """As ``_attempt``, and once more when what is unpacked turns out to be damaged, after mending it."""
        health = self._attempt(spec, runtime)
        if health.healthy:
            return health
        try:
            damaged = runtime.mend(self._device.manifest_of(spec.image))
        except (EdgepackError, OSError) as error:
            return Health(False, f"{health.reason}; its image is damaged on the disk and cannot be mended: {error}")
        if not damaged:
            return health
        _log.warning("service %s: its image was damaged on the disk and is mended; starting it again", spec.name)
        return self._attempt(spec, runtime)

    def _attempt(self, spec: DesiredService, runtime: Runtime) -> Health:
        """Stop what runs, start ``spec``, and wait until it is healthy; when it is not, it is stopped again."""
        try:
            runtime.stop(spec.name)
            runtime.start(replace(spec, image=self._device.manifest_of(spec.image)))
            health = self._wait(spec, runtime, spec.health_timeout_seconds)
            if health.healthy:
                return health
            reason = health.reason + _last_log_line(runtime.logs(spec.name, 5))
        except (EdgepackError, OSError) as error:
            reason = _without_place(error)
        # Outside of the block above: if stopping fails, the record must not say that nothing runs.
        runtime.stop(spec.name)
        return Health(False, reason)

    def _wait(self, spec: DesiredService, runtime: Runtime, timeout: float) -> Health:
        return wait_healthy(
            lambda: probe(spec.address, spec.port, spec.health_path),
            lambda: alive(runtime.inspect(spec.name)),
            timeout,
            clock=self._clock.now,
            sleep=self._clock.sleep,
        )


def _returned_meanwhile(asked: ServiceRecord, found: ServiceRecord) -> bool:
    """Whether a rollback that was ``asked`` for has been done, as is ``found``, by another command.

    Raises ``RuntimeFailedError`` when the service runs neither what was to be left nor what was to be returned to.
    """
    if asked.current == found.current or asked.last_good is None:
        return False
    target, now = asked.last_good.spec.image, found.current.spec.image
    if now not in (target, asked.current.spec.image):
        raise RuntimeFailedError(
            f"another command has brought it to {now} meanwhile", where=f"service {found.name}",
            hint="see: edge-agent status, and run the same command again if you still want to",
        )  # fmt: skip
    return now == target and found.state is ServiceState.HEALTHY


def _last_log_line(log_text: str) -> str:
    """The last line of a service's log as the end of a sentence; a log may hold anything."""
    lines = [line for line in log_text.splitlines() if line.strip()]
    if not lines:
        return ""
    return f"; it last wrote: {printable(lines[-1].strip())[:_LAST_LINE_CHARACTERS]}"


def _without_place(error: Exception) -> str:
    """The error's text without its place, for a message that names the service itself."""
    if not isinstance(error, RuntimeFailedError):
        return str(error)
    return error.what if error.hint is None else f"{error.what}, {error.hint}"
