"""What the resident agent does next: from what is on record and what is seen to actions; pure.

Rules: a service whose start is due is started whatever else goes on; nothing is done to a service that a job or another
command is changing; one service has one job at a time; what runs as recorded is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edge_agent.reconcile.lack import told
from edge_agent.reconcile.probe import Health
from edge_agent.reconcile.restarts import Checks, Ended, History, Kind, Trouble, of_end, starts_again
from edge_agent.runtimes.kills import NONE, Kills
from edge_agent.state.goals import Goal
from edgepack.state.desired import DesiredService
from edgepack.state.reported import Stage

# Stages in which a job has changed nothing yet, so that it may be ended in favour of another.
EARLY = frozenset({Stage.WANTED, Stage.DOWNLOADING, Stage.WAITING})
_CLOSED = frozenset({Stage.DONE, Stage.FAILED})
# What waits for a window, for space or for the network is looked at again after this time, twice as long each time, up
# to the most; and soon after a window has opened or closed.
_WAITING_SECONDS = 30.0
_MOST_WAITING_SECONDS = 300.0
_SPREAD_SECONDS = 30.0
# A job that ended without getting anywhere is started again after this time, twice as long each time, up to the most.
_RETRY_SECONDS = 5.0
_MOST_RETRY_SECONDS = 300.0
# Jobs that prepare or switch at once: each is a Python with libraries. One that downloads or waits for health has
# little to do, and does not count: it may take long.
_MOST_JOBS = 4
# How often it is told at most, beside when it has doubled, how much of a service was killed.
_TOLD_SECONDS = 60.0
_UNCOUNTED = frozenset({Stage.DOWNLOADING, Stage.WAITING, Stage.PROBATION})
# The longest time between two turns.
MOST_SLEEP_SECONDS = 30.0


@dataclass(frozen=True)
class Seen:
    """A service that should run: what is on record, and what is seen of it now.

    ``deployment`` numbers what was deployed. ``alive`` is ``None`` while its runtime does not answer. ``check`` is the
    newest health check and when it ended, ``refused`` why the last start failed. ``kills`` are those of what runs.
    """

    spec: DesiredService
    deployment: int
    alive: bool | None
    ended: Ended | None = None
    fault: str | None = None
    check: tuple[float, Health] | None = None
    refused: str | None = None
    kills: Kills = NONE


@dataclass(frozen=True)
class Running:
    """A job of a service: the number of the goal that it was started for, and the stage that it last told."""

    number: int
    stage: Stage


@dataclass(frozen=True)
class View:
    """All that is decided by. ``busy`` are services that are being started, probed, or changed by another command.

    ``window_at`` is when a window of the configuration opens or closes next. ``chance``, between 0 and 1, is drawn for
    each turn: many devices that wait for the same must not come for it together.
    """

    now: float
    services: Mapping[str, Seen] = field(default_factory=dict)
    goals: Mapping[str, Goal] = field(default_factory=dict)
    jobs: Mapping[str, Running] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    window_at: float | None = None
    chance: float = 1.0


@dataclass(frozen=True)
class Restart:
    """Start a service again, when it is still what ``deployment`` says; stop it before if it runs."""

    service: str
    deployment: int
    trouble: Trouble


@dataclass(frozen=True)
class Probe:
    """Ask a service for its health."""

    service: str


@dataclass(frozen=True)
class Bring:
    """Start a job that takes a service to its goal."""

    service: str
    number: int


@dataclass(frozen=True)
class Cancel:
    """End the job of a service, which has another goal by now."""

    service: str


Action = Restart | Probe | Bring | Cancel


@dataclass(frozen=True)
class Care:
    """What is remembered of a service that should run; ``left`` says why it is not started again, or not now.

    ``kills`` were told at ``told_at``: one that leaks at each request must not fill the network with its count.
    """

    deployment: int
    history: History
    checks: Checks
    probe_at: float
    checked_at: float
    left: str | None = None
    kills: Kills = NONE
    told_at: float = 0.0

    def with_kills(self, kills: Kills, now: float) -> Care:
        """With ``kills`` where they are to be told: fewer, of another run; twice as many or more; or after a while."""
        more = kills.count - self.kills.count
        if more < 0 or (more > 0 and (more >= self.kills.count or now - self.told_at >= _TOLD_SECONDS)):
            return replace(self, kills=kills, told_at=now)
        return self


@dataclass(frozen=True)
class Try:
    """What is remembered of a goal that is not reached: how often it had a job, and when the next one may be."""

    number: int
    stage: Stage
    count: int
    due: float


@dataclass(frozen=True)
class Memory:
    """What is remembered from one turn to the next: of services and goals that are there, and of nothing else."""

    cares: Mapping[str, Care] = field(default_factory=dict)
    tries: Mapping[str, Try] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """What is remembered, what to do, and when to look again at the latest."""

    memory: Memory
    actions: tuple[Action, ...]
    wake: float


def decide(view: View, memory: Memory) -> Turn:
    """The next actions, and what to remember; the same view and memory give the same."""
    actions: list[Action] = []
    wake = view.now + MOST_SLEEP_SECONDS
    cares: dict[str, Care] = {}
    for name, seen in view.services.items():
        care = memory.cares.get(name)
        if care is None or care.deployment != seen.deployment:
            care = _first(seen, view.now, care)
        if name in view.jobs or name in view.busy:
            cares[name] = care
            continue
        cares[name], action, due = _watch(name, seen, care, view.now)
        actions += [] if action is None else [action]
        wake = min(wake, due)
    tries, started, due = _jobs(view, memory)
    return Turn(Memory(cares, tries), (*actions, *started), max(view.now, min(wake, due)))


def _first(seen: Seen, now: float, before: Care | None) -> Care:
    """The care for a service that was not there before, or is deployed anew: its restarts begin again."""
    total = 0 if before is None else before.history.total
    return Care(seen.deployment, History(now, total=total), Checks(now), probe_at=now, checked_at=now)


def _watch(name: str, seen: Seen, care: Care, now: float) -> tuple[Care, Action | None, float]:
    """What becomes of the care for a service, what to do for it, and when to look again."""
    spec, never = seen.spec, now + MOST_SLEEP_SECONDS
    if seen.alive is None:
        return care, None, never
    care = care.with_kills(seen.kills, now) if seen.alive else care
    if seen.check is not None and seen.check[0] > care.checked_at:
        ended_at, health = seen.check
        care = replace(
            care, checks=care.checks.after(health, ended_at, spec.health_timeout_seconds), checked_at=ended_at
        )
    trouble = _trouble(seen, care)
    if trouble is None:
        care = replace(care, history=replace(care.history, due=None).settled(now), left=None)
        if now < care.probe_at:
            return care, None, care.probe_at
        care = replace(care, probe_at=now + spec.health_interval_seconds)
        return care, Probe(name), care.probe_at
    if not starts_again(spec.restart, trouble.kind):
        left = f"{trouble.reason}; by its policy, {spec.restart}, it is not started again"
        care = replace(care, history=replace(care.history, trouble=trouble, due=None), left=left)
        # A service that hangs and is not started again may answer again.
        if seen.alive and now >= care.probe_at:
            care = replace(care, probe_at=now + spec.health_interval_seconds)
            return care, Probe(name), care.probe_at
        return care, None, care.probe_at if seen.alive else never
    history = care.history if care.history.due is not None else care.history.met(trouble, now)
    due = now if history.due is None else history.due
    if now < due:
        return replace(care, history=history, left=history.reason), None, due
    again = Care(seen.deployment, history.restarted(now), Checks(now), probe_at=now, checked_at=now)
    return again, Restart(name, seen.deployment, trouble), now


def _trouble(seen: Seen, care: Care) -> Trouble | None:
    if not seen.alive:
        if seen.refused is not None:
            return Trouble(Kind.CRASHED, seen.refused)
        return of_end(seen.ended, seen.spec.memory_bytes)
    if seen.fault is not None:
        return Trouble(Kind.FAULTY, f"it runs, but {seen.fault}")
    found = care.checks.trouble(seen.spec.health_failures)
    lacks = None if found is None else told(seen.kills, seen.spec.memory_bytes)
    return found if found is None or lacks is None else Trouble(found.kind, f"{found.reason}; {lacks}")


def _jobs(view: View, memory: Memory) -> tuple[dict[str, Try], list[Action], float]:
    """The jobs to start and to end for goals, what is remembered of them, and when to look again."""
    tries: dict[str, Try] = {}
    actions: list[Action] = []
    wake = view.now + MOST_SLEEP_SECONDS
    counted = sum(one.stage not in _UNCOUNTED for one in view.jobs.values())
    # A port, memory or a lock may be free now.
    others = bool(memory.tries.keys() - view.goals.keys() or memory.cares.keys() - view.services.keys())
    for name, goal in view.goals.items():
        tried = memory.tries.get(name)
        job = view.jobs.get(name)
        if job is not None:
            if job.number != goal.number and job.stage in EARLY:
                actions.append(Cancel(name))
            if tried is not None and tried.number == goal.number:
                tries[name] = replace(tried, due=_next(tried.count, job.stage, view))
            continue
        if goal.stage in _CLOSED:
            continue
        if tried is None or tried.number != goal.number:
            tried = Try(goal.number, goal.stage, 0, view.now)
        elif tried.stage is not goal.stage and goal.stage is not Stage.WAITING:
            tried = Try(goal.number, goal.stage, 0, min(tried.due, view.now + _RETRY_SECONDS))
        elif others and goal.stage is Stage.WAITING:
            tried = replace(tried, due=min(tried.due, view.now))
        if name not in view.busy and view.now >= tried.due and counted < _MOST_JOBS:
            actions.append(Bring(name, goal.number))
            counted += 1
            tried = Try(goal.number, goal.stage, tried.count + 1, _next(tried.count + 1, goal.stage, view))
        tries[name] = tried
        wake = min(wake, max(tried.due, view.now + 1.0) if tried.due <= view.now else tried.due)
    return tries, actions, wake


def _next(count: int, stage: Stage, view: View) -> float:
    """When the job after the ``count``-th one for a goal begins, if that ends now."""
    first, most = _RETRY_SECONDS, _MOST_RETRY_SECONDS
    if stage is Stage.WAITING:
        first, most = _WAITING_SECONDS, _MOST_WAITING_SECONDS
    due = view.now + min(first * 2.0 ** min(max(count - 1, 0), 16), most) * (1.0 + view.chance) / 2.0
    if stage is Stage.WAITING and view.window_at is not None and view.window_at > view.now:
        due = min(due, view.window_at + _SPREAD_SECONDS * view.chance)
    return due
