"""What is done to services: a desired state is applied, one service is stopped, started, returned, brought to its goal.

Each verb plans, prepares everything, and then changes; ``Runner`` is what commands and the agent's jobs call.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from edge_agent.device import Device
from edge_agent.reconcile.acceptance import accept, commanded, commanded_endpoints, error_of
from edge_agent.reconcile.bring import Bringing, OnBytes, Rules
from edge_agent.reconcile.looking import Clock, Looking
from edge_agent.reconcile.plan import Step, Stop, Switch, conflicts, plan, plan_rollback, port_holders, rollback_target
from edge_agent.reconcile.probation import Proving
from edge_agent.reconcile.progress import Progress
from edge_agent.reconcile.space import forget_service, give_back
from edge_agent.reconcile.starting import Starting
from edge_agent.reconcile.switching import Preparing, Switching
from edge_agent.runtimes.base import holding
from edge_agent.runtimes.haproxy.front import Front
from edge_agent.sources.base import Fetcher
from edge_agent.state.goals import Goal, Refusal, Stage
from edge_agent.state.records import ServiceRecord
from edge_agent.traffic import ports
from edge_agent.traffic.keeper import Routers
from edgepack.errors import EdgepackError, NotFoundError, RuntimeFailedError, UsageError
from edgepack.host.locks import LockedError
from edgepack.nearness import did_you_mean
from edgepack.oci.digest import Digest
from edgepack.state.desired import NO_IMAGE, Desired, DesiredService
from edgepack.state.reported import ServiceState
from edgepack.state.topics import COMMAND

_log = logging.getLogger(__name__)
__all__ = ["Clock", "Rules", "Runner"]


class Runner:
    """Brings ``device`` to its desired state."""

    def __init__(
        self,
        device: Device,
        *,
        allow_unsigned: bool = False,
        reset_serial: bool = False,
        clock: Clock | None = None,
        rules: Rules | None = None,
    ) -> None:
        clock = clock or Clock()
        self._device = device
        self._reset_serial = reset_serial
        self._progress = Progress(device)
        self._looking = Looking(device, clock)
        self._preparing = Preparing(device, self._looking, allow_unsigned=allow_unsigned)
        self._switching = Switching(device, self._looking, self._preparing, self._progress)
        self._proving = Proving(device, self._looking, self._switching, self._progress, clock)
        self._bringing = Bringing(
            device, self._looking, self._preparing, self._switching, self._proving, self._progress, rules or Rules()
        )

    # What the agent does by itself

    def bring(self, service: str, fetcher: Fetcher | None = None, on_bytes: OnBytes | None = None) -> Stage:
        """Take the goal of ``service`` as far as it goes now: fetched, verified, prepared, switched to, proven.

        Returns ``DONE``, ``FAILED``, or ``WAITING`` for what another call may find otherwise; the goal has the reason.
        Without a ``fetcher`` only what is on the device is used. Raises ``NotFoundError`` for a service without a goal.
        """
        stage = self._bringing.bring(service, fetcher, on_bytes)
        if stage is Stage.DONE:
            self._give_back()
        return stage

    def recover(self) -> dict[str, Stage]:
        """Do what the table of stages says about a start after a crash; returns the stage of every goal.

        Only records are changed; ``bring`` does what follows from them. A service that another command is at work on
        is left to it.
        """
        found = {}
        self._device.make_room()
        for name, goal in self._device.state.goals().items():
            if not self._device.busy_with(name):
                goal = self._bringing.begin_again(goal) or self._progress.goal(name) or goal
            found[name] = goal.stage
        return found

    def look_again(self, images: Collection[Digest]) -> tuple[str, ...]:
        """Let services whose goal failed because their image was missing try again, now that ``images`` are here."""
        state = self._device.state
        services, quarantined = state.services(), state.quarantined()
        found = []
        for name, goal in state.goals().items():
            image, record = goal.spec.image, services.get(name)
            tried = record is not None and image in {one.spec.image for one in (record.current, *record.healthy)}
            if goal.stage is Stage.FAILED and image in images and image not in quarantined and not tried:
                state.set_goal(goal.spec, goal.origin, goal.serial)
                found.append(name)
        return tuple(found)

    # What an operator asks for

    def apply(self, desired: Desired) -> tuple[Step, ...]:
        """Make the device run ``desired``; returns the steps that were needed.

        A service that does not become healthy is rolled back to what was healthy before, and ``RuntimeFailedError`` is
        raised once the others are done. Raises ``VerificationError`` for an older serial, none where one was accepted
        before, one that is far too high (unless the serial is reset), or an unsigned image,
        ``NotFoundError`` for an image that was not imported, ``UsageError`` for a port that another service has;
        nothing has been stopped then.
        """
        state = self._device.state
        Routers(self._device).check(desired.endpoints, desired.services)
        with self._device.using(*(spec.name for spec in desired.services)):
            wanted = state.wanted()
            document = accept(
                desired, COMMAND, wanted.documents, sequence=wanted.next_sequence, reset=self._reset_serial
            )
            if isinstance(document, Refusal):
                raise error_of(document)
            services = self._settled(desired)
            if wrong := (*conflicts(desired, services), *ports.conflicts(desired, services, wanted.endpoints)):
                raise UsageError(
                    "; ".join(wrong), where="desired state", hint="name that service too, or choose another port"
                )
            steps = self._prepared(desired, services)
            # Accepted from here on, however it ends: an older document must not undo what a newer one began.
            goals = commanded(desired, document)
            state.accept(
                document, goals.values(), signed_at=desired.signed_at, reset=self._reset_serial,
                endpoints=commanded_endpoints(desired, document),
            )  # fmt: skip
            failed = self._carry_out(steps, services, goals)
        self._prove_and_raise(failed, goals, {one.name for one in desired.endpoints})
        return steps

    def deploy(self, spec: DesiredService, fetcher: Fetcher | None = None) -> None:
        """Run ``spec``, whatever was desired of that service before; as ``apply`` of a document with it alone.

        What is not on the device comes by ``fetcher``.
        """
        try:
            self._operate(spec)
        except NotFoundError:
            if fetcher is None:
                raise
            fetcher.fetch(spec.image, names=(spec.name,))
            self._operate(spec)

    def start(self, name: str) -> DesiredService:
        """Run service ``name`` as it was recorded, if it does not run so already."""
        self._require(name)
        record = self._device.services().get(name)
        # Of a service that never came to be, what was desired of it.
        known = self._device.state.goals()[name].spec if record is None else record.current.spec
        spec = replace(known, status="running")
        self._operate(spec)
        return spec

    def stop(self, name: str, *, remove: bool = False, forget: bool = False) -> None:
        """Stop service ``name``, or remove it; a rollback of one that was removed brings it back.

        With ``forget``, which is for one that is removed, all is gone that a rollback needs.
        """
        self._require(name)
        # Before the lock and the records, which need a little space to be opened.
        self._device.make_room()
        state = self._device.state
        with self._device.using(name):
            record = state.services().get(name)
            known = state.goals()[name].spec if record is None else record.current.spec
            # What was removed is stopped too, and a rollback still has to bring it back.
            removed = remove or (record is not None and record.state is ServiceState.REMOVED)
            goal = state.set_goal(replace(known, status="removed" if removed else "stopped"), COMMAND, None)
            if record is not None and plan(Desired((goal.spec,)), {name: record}, ()):
                self._switching.stop(record, goal)
            else:
                self._progress.enter(goal, Stage.DONE)
            if forget:
                forget_service(self._device, name)
        self._route()
        if forget:
            self._give_back()

    def restart(self, name: str) -> None:
        """Start service ``name`` anew with the same image and settings; raises ``RuntimeFailedError`` when it fails."""
        self._require(name)
        with self._device.using(name):
            record, where = self._device.state.services().get(name), f"service {name}"
            if record is None or record.state is not ServiceState.HEALTHY:
                what = "it does not run" if record is None else f"it is {record.state.lower()}"
                raise UsageError(
                    f"{what}, so there is nothing to start anew", where=where, hint=f"run: edge-agent start {name}"
                )
            spec = record.current.spec
            runtime = self._device.runtime_named(record.runtime)
            self._preparing.prepare_image(runtime, spec.image)
            with holding(runtime, name):
                health = Starting(self._device, self._looking).again(spec, runtime)
            if not health.healthy:
                hint = f"read its log, or return to an earlier image with: edge-agent rollback {name}"
                raise RuntimeFailedError(health.reason, where=where, hint=hint)

    def rollback(self, name: str) -> DesiredService:
        """Return service ``name`` to its last good image and run it; raises ``NotFoundError`` without one.

        One that was removed is run again. Of two at once the second finds it done. Raises ``RuntimeFailedError`` when
        another command has brought the service to something else meanwhile.
        """
        self._require_device()
        asked = self._device.services().get(name)
        self._device.make_room()
        state = self._device.state
        with self._device.using(name):
            services = state.services()
            record = self._known(name, services)
            if asked is not None and _returned_meanwhile(asked, record):
                _log.info("service %s: another command has returned it to %s", name, record.current.spec.image)
                return record.current.spec
            begun = self._progress.goal(name)
            if begun is not None and _is_returned(begun, record):  # by a command that was killed a moment later
                self._progress.enter(begun, Stage.DONE)
                return record.current.spec
            steps, target = plan_rollback(record), rollback_target(record)
            if target is None or not steps:
                raise NotFoundError(
                    "has no earlier image that was healthy", where=f"service {name}", hint="apply another image"
                )
            self._preparing.prepare(steps, services)
            goal = state.set_goal(target.spec, COMMAND, None)
            returning = self._progress.enter(goal, Stage.RETURNING)
            goals = {} if returning is None else {name: returning}
            failed = self._switching.change([one for one in steps if isinstance(one, Switch)], services, goals)
        self._route()
        _raise(failed)
        return target.spec

    def _operate(self, spec: DesiredService) -> None:
        desired = Desired((spec,))
        with self._device.using(spec.name):
            self._device.make_room()
            services = self._settled(desired)
            if held := port_holders(spec, services):
                what = f"port {spec.port} is that of service {held[0].name}"
                hint = f"choose another port, or run: edge-agent stop {held[0].name}"
                raise UsageError(what, where=f"service {spec.name}", hint=hint)
            steps = self._prepared(desired, services)
            goals = {spec.name: self._device.state.set_goal(spec, COMMAND, None)}
            failed = self._carry_out(steps, services, goals)
        self._prove_and_raise(failed, goals)

    def _settled(self, desired: Desired) -> dict[str, ServiceRecord]:
        """All services, after those of ``desired`` count as good whose change was interrupted, and that answer."""
        try:
            Front(self._device.root).settle()  # else they seem not to answer
        except EdgepackError as error:
            _log.warning("%s", error)
        services = self._device.state.services()
        for spec in desired.services:
            if spec.name in services:
                self._switching.count(services[spec.name], spec)
        return self._device.state.services()

    def _prepared(self, desired: Desired, services: Mapping[str, ServiceRecord]) -> tuple[Step, ...]:
        steps = plan(desired, services, self._looking.healthy(desired.services, services))
        self._preparing.prepare(steps, services)
        return steps

    def _carry_out(
        self, steps: Iterable[Step], services: Mapping[str, ServiceRecord], goals: Collection[str]
    ) -> dict[str, RuntimeFailedError]:
        """Change what ``steps`` say, which are prepared, and record how far each of ``goals`` is."""
        found = {name: goal for name, goal in self._device.state.goals().items() if name in goals}
        changes = [step for step in steps if isinstance(step, Stop | Switch)]
        ending = {step.service for step in changes if isinstance(step, Stop)}
        switching = {step.spec.name for step in changes if isinstance(step, Switch)}
        current: dict[str, Goal] = {}
        for name, goal in found.items():
            here = Stage.STAGED if name in switching else None if name in ending else Stage.DONE
            if here is Stage.DONE:
                self._device.state.forget_reason(name)
            entered = goal if here is None else self._progress.enter(goal, here)
            current |= {} if entered is None else {name: entered}
        return self._switching.change(changes, services, current)

    def _prove_and_raise(
        self, failed: dict[str, RuntimeFailedError], goals: Collection[str], endpoints: Collection[str] = ()
    ) -> None:
        """Watch what is on probation, share requests out, remove what is not needed any more, and raise what failed."""
        for name, goal in self._device.state.goals().items():
            if name in goals and goal.stage is Stage.PROBATION and (failure := self._proving.prove(goal)) is not None:
                failed[name] = failure
        routes = self._route()
        if not failed:
            self._give_back()
        _raise(failed)
        for name in sorted(routes.keys() & set(endpoints)):
            raise routes[name]

    def _route(self) -> dict[str, EdgepackError]:
        """Share requests out as endpoints desire; returns what failed, which is on record too."""
        found = Routers(self._device).settle()
        for error in found.values():
            _log.warning("%s", error)
        return found

    def _give_back(self) -> None:
        """Remove what nothing needs any more; the desired state has been reached whether or not that works."""
        try:
            with self._device.changing(0):
                give_back(self._device)
        except LockedError as error:
            _log.debug("what is not needed any more is removed another time: %s", error)
        except (EdgepackError, OSError) as error:
            _log.warning("what is not needed any more cannot be removed now: %s", error)

    def _require_device(self) -> None:
        if not self._device.exists:
            raise NotFoundError("no services are recorded", where=self._device.root, hint="check --state-dir")

    def _require(self, name: str) -> None:
        """Raise ``NotFoundError`` for a service of which nothing is on record and nothing is desired."""
        self._require_device()
        services, wanted = self._device.recorded()
        # Of one that was forgotten the goal is left, without an image.
        known = sorted({*services, *(name for name, goal in wanted.goals.items() if goal.spec.image != NO_IMAGE)})
        if name not in known:
            raise self._unknown(name, known)

    def _known(self, name: str, services: Mapping[str, ServiceRecord]) -> ServiceRecord:
        if name not in services:
            raise self._unknown(name, services)
        return services[name]

    def _unknown(self, name: str, services: Collection[str]) -> NotFoundError:
        hint = did_you_mean(name, services, f"services: {', '.join(services) or 'none'}")
        return NotFoundError(f"service {name!r} not found", where=self._device.root, hint=hint)


def _is_returned(goal: Goal, record: ServiceRecord) -> bool:
    """Whether a rollback that was asked for is done, and only not on record as such."""
    asked = goal.stage is Stage.RETURNING and goal.reason is None
    return asked and record.state is ServiceState.HEALTHY and record.current.spec == goal.spec


def _raise(failed: Mapping[str, RuntimeFailedError]) -> None:
    failures = list(failed.values())
    if len(failures) > 1:
        raise RuntimeFailedError("; ".join(str(one) for one in failures))
    if failures:
        raise failures[0]


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
