"""When a service that ended or does not answer is started again; pure.

The first restart is at once, the others wait longer and longer; one that has run for a while counts as a new beginning.
All times are in seconds of a clock that only goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from edge_agent.reconcile.lack import used_up
from edge_agent.reconcile.probe import Health, how_it_ended
from edgepack.state.desired import Restart

_FIRST_SECONDS = 10.0
_MOST_SECONDS = 300.0
# A service that ran this long has not failed again, but anew.
RESET_SECONDS = 600.0
# So many restarts without a reset between them are a loop.
_LOOP_RESTARTS = 3


class Kind(StrEnum):
    """What happened to a service that should run."""

    GONE = "gone"  # there is no instance of it: the device was restarted, or its engine lost it
    ENDED = "ended"  # it ended with code 0
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out of memory"
    HUNG = "hung"  # it runs, and does not answer
    UNHEALTHY = "unhealthy"  # it runs, and answers that it is not well
    FAULTY = "faulty"  # it runs, and what keeps it does not


# What each policy starts again. The names and their meaning are those of IoT Edge.
_STARTED: dict[Restart, frozenset[Kind]] = {
    "never": frozenset({Kind.GONE}),
    "on-failure": frozenset({Kind.GONE, Kind.CRASHED, Kind.OUT_OF_MEMORY}),
    "on-unhealthy": frozenset(Kind) - {Kind.ENDED},
    "always": frozenset(Kind),
}


@dataclass(frozen=True)
class Trouble:
    """What happened, and in words."""

    kind: Kind
    reason: str


@dataclass(frozen=True)
class Ended:
    """How an instance ended; the code is ``None`` when nobody saw it, and 128 and more after a signal."""

    exit_code: int | None
    out_of_memory: bool = False


def starts_again(policy: Restart, kind: Kind) -> bool:
    """Whether ``policy`` starts a service again to which ``kind`` has happened."""
    return kind in _STARTED[policy]


def of_end(ended: Ended | None, memory_bytes: int | None) -> Trouble:
    """What an instance that ``ended`` has met, ``None`` for one that is not there any more."""
    if ended is None or (ended.exit_code is None and not ended.out_of_memory):
        return Trouble(Kind.GONE, "it is not running")
    if ended.out_of_memory:
        return Trouble(Kind.OUT_OF_MEMORY, f"out of memory: it used {used_up(memory_bytes)} and was killed")
    said = how_it_ended(ended.exit_code or 0)
    return Trouble(Kind.CRASHED if ended.exit_code else Kind.ENDED, said)


@dataclass(frozen=True)
class Checks:
    """The health checks of one run of a service, since it was started at ``since``."""

    since: float
    failures: int = 0
    answered: bool = False  # whether any of the last failures was an answer
    ever_healthy: bool = False
    last: Health | None = None

    def after(self, health: Health, now: float, grace: float) -> Checks:
        """With one more; failures count once it was healthy, or ``grace`` seconds after its start."""
        if health.healthy:
            return Checks(self.since, ever_healthy=True, last=health)
        if not self.ever_healthy and now - self.since < grace:
            return replace(self, last=health)
        answered = health.answered or (self.failures > 0 and self.answered)
        return replace(self, failures=self.failures + 1, answered=answered, last=health)

    def trouble(self, allowed: int) -> Trouble | None:
        """What the service has met when ``allowed`` checks in a row have failed."""
        if self.last is None or self.failures < allowed:
            return None
        checks = f"{self.failures} health checks in a row" if self.failures > 1 else "a health check"
        if self.answered:
            return Trouble(Kind.UNHEALTHY, f"unhealthy: it failed {checks} ({self.last.reason})")
        return Trouble(Kind.HUNG, f"it hangs: it runs, and did not answer {checks} ({self.last.reason})")


@dataclass(frozen=True)
class History:
    """The restarts of a service: ``count`` since the last reset, ``total`` since the agent began.

    ``started`` is when the present run began, ``first`` when the row of restarts began. ``due`` is when the next start
    may be, ``None`` while nothing is to be started.
    """

    started: float
    count: int = 0
    total: int = 0
    first: float = 0.0
    due: float | None = None
    trouble: Trouble | None = None

    def met(self, trouble: Trouble, now: float) -> History:
        """The present run has met ``trouble``; the next start is at ``due``."""
        count = 0 if now - self.started >= RESET_SECONDS else self.count
        first = self.first if count else now
        return replace(self, count=count, first=first, due=now + delay(count), trouble=trouble)

    def restarted(self, now: float) -> History:
        """It was started again."""
        return replace(self, started=now, count=self.count + 1, total=self.total + 1, due=None)

    def settled(self, now: float) -> History:
        """What is remembered of a service that runs: after a while nothing but how often it was started again."""
        if now - self.started < RESET_SECONDS or not (self.count or self.trouble):
            return self
        return History(self.started, total=self.total)

    @property
    def loops(self) -> bool:
        """Whether it fails again and again."""
        return self.count >= _LOOP_RESTARTS

    @property
    def begins_to_loop(self) -> bool:
        """Whether it has just been started again as often as makes a loop."""
        return self.count == _LOOP_RESTARTS

    @property
    def reason(self) -> str | None:
        """What to tell of it; nothing for a service that never failed."""
        if self.trouble is None:
            return None
        times = f"{self.count} times" if self.count > 1 else "once"
        if self.due is None:
            return f"it was started again {times}, last because {self.trouble.reason}" if self.count else None
        wait = delay(self.count)
        after = f"; it starts again {wait:g} seconds later" if wait else ""
        if self.loops:
            return f"crash loop: {self.trouble.reason}, after {times} of being started again{after}"
        return f"{self.trouble.reason}{after}"


def delay(count: int) -> float:
    """How many seconds after its end a service is started again that was started again ``count`` times."""
    # No power of a large number is taken: a service may fail for years.
    return 0.0 if count == 0 else min(_FIRST_SECONDS * 2.0 ** min(count - 1, 16), _MOST_SECONDS)
