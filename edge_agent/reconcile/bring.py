"""Takes one service's goal as far as it goes now, through the stages of ``stages.TABLE``.

Several processes do so for several services at the same time. What takes long (a download, unpacking, a probation)
holds no service's lock, so that a command is not kept waiting by it; a goal that was replaced meanwhile is let go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from edge_agent.config.configuration import Configuration, Updates
from edge_agent.device import Device
from edge_agent.reconcile.gates import Network, first_closed
from edge_agent.reconcile.looking import Looking
from edge_agent.reconcile.outlook import look
from edge_agent.reconcile.plan import (
    Fetch,
    Prepare,
    Step,
    Stop,
    Switch,
    good_for,
    plan,
    plan_goal,
    port_holders,
    ports,
    resumed,
)
from edge_agent.reconcile.probation import Proving
from edge_agent.reconcile.probe import Health
from edge_agent.reconcile.progress import Progress
from edge_agent.reconcile.space import relieve
from edge_agent.reconcile.stages import ATTEMPTS, TABLE, after_start
from edge_agent.reconcile.switching import Preparing, Switching
from edge_agent.sources.base import Fetcher, PausedError, SourceGoneError
from edge_agent.state.goals import Goal, Stage
from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edgepack.errors import (
    EdgepackError,
    MissingPartError,
    NoSpaceError,
    NotFoundError,
    RegistryUnavailableError,
    VerificationError,
)
from edgepack.state.desired import Desired
from edgepack.state.reported import ServiceState

_log = logging.getLogger(__name__)
_ENDS = (Stage.DONE, Stage.FAILED, Stage.WAITING)
# In these nothing of the version that runs was touched.
_UNTOUCHED = (Stage.WANTED, Stage.DOWNLOADING, Stage.STAGED, Stage.WAITING)
# What a later look may find otherwise, so that the service waits for it.
_PASSING = (PausedError, SourceGoneError, RegistryUnavailableError, MissingPartError, NoSpaceError)
# Hears the service, how many bytes of its image are here, and how many it has.
OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Rules:
    """What the configuration says about bringing a service to its goal."""

    updates: Updates = field(default_factory=Updates)
    floor_bytes: int = 0

    @classmethod
    def of(cls, configuration: Configuration) -> Rules:
        """Those of ``configuration``."""
        return cls(configuration.updates, configuration.floor_bytes)


class Bringing:
    """Brings services of ``device`` to their goals."""

    def __init__(
        self,
        device: Device,
        looking: Looking,
        preparing: Preparing,
        switching: Switching,
        proving: Proving,
        progress: Progress,
        rules: Rules,
    ) -> None:
        self._device = device
        self._looking = looking
        self._preparing = preparing
        self._switching = switching
        self._proving = proving
        self._progress = progress
        self._rules = rules

    def bring(self, service: str, fetcher: Fetcher | None, on_bytes: OnBytes | None) -> Stage:
        """Take the goal of ``service`` as far as it goes now; the stage that it is in then.

        Raises ``NotFoundError`` for a service without a goal.
        """
        while True:
            goal = self._progress.goal(service)
            if goal is None:
                raise NotFoundError(
                    "nothing is desired of it", where=f"service {service}", hint="see: edge-agent status"
                )
            try:
                found = self._advanced(goal, fetcher, on_bytes)
            except (EdgepackError, OSError) as error:
                found = self._hindered(goal, error)
                if found is None:
                    raise
            if found is not None and found.stage in _ENDS:
                return found.stage

    def _hindered(self, goal: Goal, error: Exception) -> Goal | None:
        """The goal ``WAITING`` with the ``error`` as its reason; ``None`` where something may be half changed."""
        now = self._progress.goal(goal.service)
        if now is None or now.number != goal.number or now.stage not in _UNTOUCHED:
            return None
        return self._wait(now, str(error))

    def _advanced(self, goal: Goal, fetcher: Fetcher | None, on_bytes: OnBytes | None) -> Goal | None:
        """The goal one or more stages further; ``None`` when it was replaced, or its record is to be looked at anew."""
        match goal.stage:
            case Stage.DONE | Stage.FAILED:
                return goal
            case Stage.SWITCHING:
                self.begin_again(goal)
                return None
            case Stage.RETURNING:
                self.give_back(goal)
                return None
            case Stage.PROBATION:
                self._proving.prove(goal)
                return None
            case _:
                return self._arrive(goal, fetcher, on_bytes)

    # After a crash

    def begin_again(self, goal: Goal, patience_seconds: float | None = None) -> Goal | None:
        """What a start after a crash makes of ``goal``, with the service's lock held: nobody is at work on it then."""
        with self._device.using(goal.service, patience_seconds=patience_seconds):
            self._device.make_room()
            now = self._progress.goal(goal.service)
            if now is None or now.number != goal.number or not TABLE[now.stage].boot.counted:
                return now
            record = self._device.state.services().get(goal.service)
            entry = after_start(now, returnable=record is not None and good_for(record, now) is not None)
            if entry is None:
                return now
            reason = now.reason
            if entry.stage in (Stage.RETURNING, Stage.FAILED) and now.stage is not Stage.RETURNING:
                reason = f"the agent ended while it was {now.stage.lower()}"
                reason += f", {ATTEMPTS} times" if now.attempts + entry.counted >= ATTEMPTS else ""
            if entry.stage is Stage.FAILED:
                self._switching.quarantine(now.spec.image, reason or "")
                if record is not None and record.state is ServiceState.TRANSITIONING:
                    self._device.state.finish(record.current, Outcome.FAILED, ServiceState.FAILED, reason)
            return self._progress.enter(now, entry.stage, reason, counted=entry.counted)

    def give_back(self, goal: Goal) -> None:
        """Start the last good version of a service that is ``RETURNING``, or what a rollback is to return to."""
        with self._device.using(goal.service):
            self._device.make_room()
            now = self._progress.goal(goal.service)
            if now is None or now.number != goal.number or now.stage is not Stage.RETURNING:
                return
            services = self._device.state.services()
            record = services.get(goal.service)
            if now.reason is None:  # nothing failed: it was asked for
                if record is not None and record.state is ServiceState.HEALTHY and record.current.spec == now.spec:
                    self._progress.enter(now, Stage.DONE)
                    return
                fallback = None if record is None else record.fallback(now.spec)
                self._switching.switch(Switch(now.spec, fallback, returning=True), record, now)
                return
            good = None if record is None else good_for(record, now)
            if record is None or good is None:
                self._fail(now, now.reason)
                return
            health = self._restored(record, good, now.reason)
            if not health.healthy:
                self._fail(now, health.reason)
            elif now.attempts < ATTEMPTS:
                self._progress.enter(now, Stage.WANTED, now.reason)
            else:
                self._fail(now, now.reason)

    def _restored(self, record: ServiceRecord, good: Deployment, reason: str) -> Health:
        """Run ``good``, unless it still runs: then nothing had been touched."""
        untouched = record.state is ServiceState.HEALTHY and record.current.id == good.id
        if untouched and self._looking.healthy([good.spec], {record.name: record}):
            return Health(True)
        return self._switching.restore(good, reason, lambda seen: f"{reason}, and {good.spec.image} failed ({seen})")

    def _fail(self, goal: Goal, reason: str) -> Goal | None:
        self._switching.quarantine(goal.spec.image, reason)
        return self._progress.enter(goal, Stage.FAILED, reason)

    # Before anything is touched

    def _arrive(self, goal: Goal, fetcher: Fetcher | None, on_bytes: OnBytes | None) -> Goal | None:
        self._settle(goal)
        services = self._device.state.services()
        spec = goal.spec
        if spec.status == "running" and self._looking.healthy([spec], services):
            self._device.state.forget_reason(goal.service)
            return self._progress.enter(goal, Stage.DONE)
        reason = self._device.state.quarantined().get(spec.image)
        if spec.status == "running" and reason is not None:
            return self._progress.enter(goal, Stage.FAILED, f"its image is not tried again by itself: {reason}")
        steps = plan_goal(goal, services, self._rules.updates, self._rules.floor_bytes)
        if spec.status != "running":
            return self._end(goal, steps)
        found, ready = self._staged(goal, steps, services, fetcher, on_bytes)
        return found if found is None or not ready else self._change(found, steps)

    def _settle(self, goal: Goal) -> None:
        """Put right a change that was interrupted, and then replaced by another ``goal``.

        What runs and answers counts as good: it may be returned to, and its image stays. Else a good version is run.
        """
        record = self._device.state.services().get(goal.service)
        if record is None or record.state is not ServiceState.TRANSITIONING:
            return
        with self._device.using(goal.service):
            record = self._device.state.services().get(goal.service)
            if record is None or record.state is not ServiceState.TRANSITIONING:
                return
            if self._looking.runs(record):
                self._switching.count(record, goal.spec)
                return
            good = resumed(record)
            if good is not None:
                reason = "a change was interrupted"
                self._switching.restore(good, None, lambda seen: f"{reason}, and {good.spec.image} failed ({seen})")

    def _end(self, goal: Goal, steps: tuple[Step, ...]) -> Goal | None:
        """Stop or remove the service."""
        with self._device.using(goal.service):
            if not self._progress.is_current(goal):
                return None
            services = self._device.state.services()
            if not steps or goal.service not in services:
                return self._progress.enter(goal, Stage.DONE)
            self._switching.stop(services[goal.service], goal)
        return None

    def _staged(
        self,
        goal: Goal,
        steps: tuple[Step, ...],
        services: Mapping[str, ServiceRecord],
        fetcher: Fetcher | None,
        on_bytes: OnBytes | None,
    ) -> tuple[Goal | None, bool]:
        """The goal, and whether its image is here, verified and prepared; else it is ``WAITING`` or ``FAILED``."""
        # Who has the port is no reason to give up: it is waited for, or changed together with.
        leaving = [one.name for one in port_holders(goal.spec, services)]
        fetched = relieved = False
        while True:
            try:
                with self._device.using():
                    self._preparing.prepare(steps, services, leaving)
                # One that waits goes on waiting, without a record that says otherwise for a moment.
                unchanged = goal.stage in (Stage.STAGED, Stage.WAITING)
                return (goal if unchanged else self._progress.enter(goal, Stage.STAGED)), True
            except NoSpaceError as error:
                if relieved or not self._relieve():
                    return self._wait(goal, str(error)), False
                relieved = True
            except MissingPartError as error:
                return self._wait(goal, str(error)), False
            except (NotFoundError, VerificationError) as error:
                # Missing, not signed as far as is known here, or damaged: a source may have what is lacking.
                if fetched or fetcher is None:
                    return self._progress.enter(goal, Stage.FAILED, error=error), False
                after = self._fetched(goal, steps, fetcher, on_bytes)
                if after is None or after.stage is not Stage.DOWNLOADING:
                    return after, False
                goal, fetched = after, True
            except EdgepackError as error:
                return self._progress.enter(goal, Stage.FAILED, error=error), False

    def _fetched(self, goal: Goal, steps: tuple[Step, ...], fetcher: Fetcher, on_bytes: OnBytes | None) -> Goal | None:
        """The goal after its image was fetched: still ``DOWNLOADING``, or else ``WAITING`` or ``FAILED``."""
        fetch = next(step for step in steps if isinstance(step, Fetch))
        if (closed := self._closed(fetch)) is not None:
            self._relieve()
            if (closed := self._closed(fetch)) is not None:
                return self._wait(goal, closed)
        found = goal if goal.stage is Stage.DOWNLOADING else self._progress.enter(goal, Stage.DOWNLOADING)
        if found is None:
            return None

        def tell(done: int, total: int) -> None:
            if on_bytes is not None:
                on_bytes(goal.service, done, total)

        for last in (False, True):
            try:
                fetcher.fetch(fetch.image, tell, names=(goal.service,))
                return found
            except NoSpaceError as error:
                if last or not self._relieve():
                    return self._wait(found, str(error))
            except _PASSING as error:
                offline = first_closed([Network()], look(self._device.root))
                return self._wait(found, str(error) if offline is None else f"{offline} ({error})")
            except EdgepackError as error:
                return self._progress.enter(found, Stage.FAILED, error=error)
        return found

    def _relieve(self) -> bool:
        """Make room on the disk; whether anything was removed."""
        try:
            return relieve(self._device) > 0
        except (EdgepackError, OSError) as error:
            _log.warning("no room can be made on the disk now: %s", error)
            return False

    def _closed(self, *steps: Fetch | Switch) -> str | None:
        """Why the first of ``steps`` that has to wait has to."""
        now = self._device.state.time_floor(time.time())
        outlook = look(self._device.root, self._rules.updates.lock_file, now)
        return first_closed([gate for step in steps for gate in step.gates], outlook)

    def _wait(self, goal: Goal, reason: str) -> Goal | None:
        if (goal.stage, goal.reason) == (Stage.WAITING, reason):
            return goal
        return self._progress.enter(goal, Stage.WAITING, reason)

    # The change

    def _change(self, goal: Goal, steps: tuple[Step, ...]) -> Goal | None:
        """Switch to what is staged, as soon as nothing speaks against it."""
        state = self._device.state
        found = ports(goal.service, state.services(), state.goals())
        closed = found.waits or self._closed(*(step for step in steps if isinstance(step, Switch)))
        if closed is not None:
            return self._wait(goal, closed)
        if goal.stage is Stage.WAITING:
            return self._progress.enter(goal, Stage.STAGED)
        with self._device.using(*found.together):
            services, goals = state.services(), state.goals()
            now = goals.get(goal.service)
            if now is None or now.number != goal.number or ports(goal.service, services, goals) != found:
                return None
            changing = {name: goals[name] for name in found.together}
            if any(one.stage is not Stage.STAGED for one in changing.values() if one.service != goal.service):
                return self._together(goal, changing, services)
            return self._switched(changing, services)

    def _together(self, goal: Goal, changing: Mapping[str, Goal], services: Mapping[str, ServiceRecord]) -> Goal | None:
        """As ``_switched``, where the others that change with the service can be prepared; else it waits for them."""
        for one in changing.values():
            try:
                self._preparing.prepare([Prepare(one.service, one.spec.image)], services)
            except EdgepackError:
                return self._wait(goal, f"port {goal.spec.port} is still that of service {one.service}")
        return self._switched(changing, services)

    def _switched(self, changing: Mapping[str, Goal], services: Mapping[str, ServiceRecord]) -> Goal | None:
        """Switch to all of ``changing``; ``None``, for what came of it is on record."""
        specs = tuple(one.spec for one in changing.values())
        steps = plan(Desired(specs), services, self._looking.healthy(specs, services))
        needed = [step for step in steps if isinstance(step, Stop | Switch)]
        self._switching.change(needed, services, changing)
        switched = {step.spec.name for step in needed if isinstance(step, Switch)}
        for name, one in changing.items():
            if name not in switched:
                with suppress(ValueError):
                    self._progress.enter(one, Stage.DONE)
        return None
