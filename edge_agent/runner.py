"""Carries out the steps of a plan; each intention is written down before its effect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.device import Device
from edge_agent.plan import Prepare, Step, Stop, Switch, plan, plan_rollback
from edge_agent.probe import Health, probe, wait_healthy
from edge_agent.runtimes.base import Runtime, ServiceSpec
from edge_agent.state import Deployment, Outcome, ServiceRecord
from edgepack.desired import Desired, DesiredService
from edgepack.errors import EdgepackError, NotFoundError, RuntimeFailedError, VerificationError
from edgepack.oci.digest import Digest
from edgepack.reported import ReportedService, ServiceState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clock:
    """Time, to be replaced in tests."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Runner:
    """Brings ``device`` where it should be."""

    def __init__(self, device: Device, *, allow_unsigned: bool = False, clock: Clock | None = None) -> None:
        self._device = device
        self._allow_unsigned = allow_unsigned
        self._clock = clock or Clock()

    def apply(self, desired: Desired) -> tuple[Step, ...]:
        """Make the device run ``desired``; returns the steps that were needed.

        A service that does not become healthy is returned to what was healthy before, and ``RuntimeFailedError`` is
        raised once the others are done. Raises ``VerificationError`` for an older serial or an unsigned image,
        ``NotFoundError`` for an image that was not imported; nothing has been stopped then.
        """
        with self._device.changing():
            self._check_serial(desired)
            services = self._device.state.services()
            steps = plan(desired, services, self._running(services))
            self._run(steps, services)
            if desired.serial is not None:
                self._device.state.set_serial(desired.serial, Digest.of(desired.to_bytes()))
        return steps

    def rollback(self, name: str) -> DesiredService:
        """Return service ``name`` to its last good image; raises ``NotFoundError`` when there is none."""
        with self._device.changing():
            services = self._device.state.services()
            record = services.get(name)
            if record is None:
                known = ", ".join(services) or "none"
                raise NotFoundError(f"there is no service {name!r}", where=self._device.root, hint=f"there is {known}")
            steps = plan_rollback(record)
            if record.last_good is None or not steps:
                raise NotFoundError(
                    "has no earlier image that was healthy", where=f"service {name}", hint="apply another image"
                )
            self._device.state.judge(record.current, Outcome.ROLLED_BACK)
            self._run(steps, services)
            return record.last_good.spec

    def _check_serial(self, desired: Desired) -> None:
        last = self._device.state.serial()
        if desired.serial is None or last is None:
            return
        serial, digest = last
        if desired.serial < serial or (desired.serial == serial and str(Digest.of(desired.to_bytes())) != digest):
            raise VerificationError(
                f"serial {desired.serial} is not newer than serial {serial}, which this device has taken",
                where="desired state",
                hint="give it a higher serial",
            )

    def _running(self, services: dict[str, ServiceRecord]) -> frozenset[str]:
        found = set()
        for name, record in services.items():
            instance = self._device.runtime_named(record.runtime).inspect(name)
            if instance is not None and instance.state == "running":
                found.add(name)
        return frozenset(found)

    def _run(self, steps: tuple[Step, ...], services: dict[str, ServiceRecord]) -> None:
        failures = []
        for step in steps:
            match step:
                case Prepare(image):
                    self._prepare(image)
                case Stop(name):
                    self._stop(services[name])
                case Switch(spec, fallback):
                    failure = self._switch(spec, fallback, services.get(spec.name))
                    failures += [] if failure is None else [failure]
        if failures:
            raise failures[0]

    def _prepare(self, image: Digest) -> None:
        self._device.check_signed(image, allow_unsigned=self._allow_unsigned)
        self._device.runtime.prepare(self._device.manifest_of(image))

    def _stop(self, record: ServiceRecord) -> None:
        self._device.runtime_named(record.runtime).stop(record.name)
        outcome = record.current.outcome
        if outcome is Outcome.TRYING:
            outcome = Outcome.FAILED
        self._device.state.finish(record.current, record.runtime, outcome, ServiceState.STOPPED, None)

    def _switch(
        self, spec: DesiredService, fallback: DesiredService | None, record: ServiceRecord | None
    ) -> RuntimeFailedError | None:
        state, runtime = self._device.state, self._device.runtime
        deployment = state.begin(spec, runtime.name)
        if record is not None and record.runtime != runtime.name:
            self._device.runtime_named(record.runtime).stop(spec.name)
        failure = self._try(spec, runtime)
        if failure is None:
            state.finish(deployment, runtime.name, Outcome.HEALTHY, ServiceState.HEALTHY, None)
            return None
        if fallback is None:
            state.finish(deployment, runtime.name, Outcome.FAILED, ServiceState.FAILED, failure)
            return RuntimeFailedError(
                failure, where=f"service {spec.name}", hint="there is no earlier image to return to"
            )
        state.judge(deployment, Outcome.FAILED)
        return self._return_to(fallback, deployment, failure, runtime)

    def _return_to(
        self, fallback: DesiredService, failed: Deployment, failure: str, runtime: Runtime
    ) -> RuntimeFailedError:
        image = f"image {failed.spec.image} failed ({failure})"
        log.warning("service %s: %s; returning to %s", fallback.name, image, fallback.image)
        back = self._device.state.begin(fallback, runtime.name)
        try:
            self._prepare(fallback.image)
            again = self._try(fallback, runtime)
        except EdgepackError as error:
            again = str(error)
        if again is None:
            reason = f"{image}; returned to the last good one"
            self._device.state.finish(back, runtime.name, Outcome.HEALTHY, ServiceState.HEALTHY, reason)
            return RuntimeFailedError(
                failure, where=f"service {fallback.name}", hint=f"it runs {fallback.image} again, as before"
            )
        reason = f"{image}, and so did {fallback.image} ({again})"
        self._device.state.finish(back, runtime.name, Outcome.FAILED, ServiceState.FAILED, reason)
        return RuntimeFailedError(reason, where=f"service {fallback.name}", hint="read its log and apply another image")

    def _try(self, spec: DesiredService, runtime: Runtime) -> str | None:
        """Stop what runs, start ``spec``, wait until it is healthy; the reason when it is not."""
        runtime.stop(spec.name)
        try:
            runtime.start(
                ServiceSpec(
                    spec.name, self._device.manifest_of(spec.image), spec.port, spec.address, spec.env,
                    spec.memory_bytes, spec.cpus,
                )
            )  # fmt: skip
        except RuntimeFailedError as error:
            runtime.stop(spec.name)
            return str(error)
        health = self._wait(spec, runtime)
        if health.healthy:
            return None
        last = runtime.logs(spec.name, 1).strip()
        runtime.stop(spec.name)
        return f"{health.reason}; it last wrote: {last}" if last else health.reason

    def _wait(self, spec: DesiredService, runtime: Runtime) -> Health:
        def exited() -> str | None:
            instance = runtime.inspect(spec.name)
            if instance is not None and instance.state == "running":
                return None
            code = None if instance is None else instance.exit_code
            return "it exited at once" if code is None else f"it exited with code {code}"

        return wait_healthy(
            lambda: probe(spec.address, spec.port, spec.health_path),
            exited,
            spec.health_timeout_seconds,
            clock=self._clock.now,
            sleep=self._clock.sleep,
        )


def status(device: Device) -> tuple[ReportedService, ...]:
    """Every service as it is now: what was written down, and what its runtime and a probe say."""
    return tuple(_reported(device, record) for record in device.state.services().values())


def _reported(device: Device, record: ServiceRecord) -> ReportedService:
    state, reason = record.state, record.reason
    spec = record.current.spec
    if state is ServiceState.HEALTHY:
        instance = device.runtime_named(record.runtime).inspect(record.name)
        if instance is None or instance.state != "running":
            code = None if instance is None else instance.exit_code
            state = ServiceState.FAILED
            reason = "it does not run" if code is None else f"it exited with code {code}"
        elif not (health := probe(spec.address, spec.port, spec.health_path)).healthy:
            state, reason = ServiceState.UNHEALTHY, health.reason
    elif state is ServiceState.TRANSITIONING:
        reason = "the agent was interrupted, or is at work; apply the desired state again to finish"
    last_good = None if record.last_good is None else record.last_good.spec.image
    return ReportedService(record.name, state, spec.image, last_good, spec.port, record.runtime, reason)
