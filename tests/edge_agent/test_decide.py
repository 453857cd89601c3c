"""What the resident agent decides, over simulated days: pure, so that a whole device needs no time and no processes."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.daemon.decide import (
    Bring,
    Cancel,
    Memory,
    Probe,
    Restart,
    Running,
    Seen,
    Turn,
    View,
    decide,
)
from edge_agent.reconcile.probe import Health
from edge_agent.reconcile.restarts import Ended, Kind, delay
from edge_agent.runtimes.kills import Kills
from edge_agent.state.goals import Goal
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.reported import Stage
from tests.support.sampling import times

DAY = 24 * 3600.0
IMAGE = Digest.of(b"image")


def spec(name: str = "churn", **more: object) -> DesiredService:
    return DesiredService(name, IMAGE, 6789, **more)  # type: ignore[arg-type]


def seen(alive: bool | None = True, **more: object) -> Seen:
    return Seen(more.pop("spec", spec()), 1, alive, **more)  # type: ignore[arg-type]


def turn(now: float, memory: Memory | None = None, **more: object) -> Turn:
    return decide(View(now, **more), memory or Memory())  # type: ignore[arg-type]


def goal(stage: Stage = Stage.WANTED, *, number: int = 1, name: str = "churn") -> Goal:
    return Goal(spec(name), "device", 1, stage, number=number)


def test_a_service_that_ended_is_started_again_at_once() -> None:
    first = turn(0, services={"churn": seen(False, ended=Ended(7))})

    assert [(type(one), one.service) for one in first.actions] == [(Restart, "churn")]
    restart = first.actions[0]
    assert isinstance(restart, Restart)
    assert (restart.deployment, restart.trouble.kind) == (1, Kind.CRASHED)


def test_it_waits_longer_each_time_and_says_when_to_look_again() -> None:
    services = {"churn": seen(False, ended=Ended(7))}
    found = turn(0, services=services)
    for count in range(1, 5):
        found = turn(0, found.memory, services=services)
        assert found.actions == ()
        assert found.wake == min(delay(count), 30), "seconds until the next start, or a turn in between"
        found = turn(delay(count), found.memory, services=services)
        assert len(found.actions) == 1
        # All restarts of this test are at the same moment of the next round.
        found = Turn(rebased(found.memory, -delay(count)), found.actions, 0)


def rebased(memory: Memory, by: float) -> Memory:
    from dataclasses import replace

    return Memory(
        {
            name: replace(
                care,
                history=replace(care.history, started=care.history.started + by),
                checks=replace(care.checks, since=care.checks.since + by),
                checked_at=care.checked_at + by,
                probe_at=care.probe_at + by,
            )
            for name, care in memory.cares.items()
        },
        memory.tries,
    )


@pytest.mark.parametrize("restart", ["never", "on-failure"])
def test_a_service_that_ended_well_is_left_ended_where_its_policy_says_so(restart: str) -> None:
    found = turn(0, services={"churn": seen(False, ended=Ended(0), spec=spec(restart=restart))})

    assert found.actions == ()
    assert found.memory.cares["churn"].history.reason is None or found.memory.cares["churn"].history.count == 0


def test_nothing_is_done_while_the_engine_does_not_answer() -> None:
    assert turn(0, services={"churn": seen(None)}).actions == ()


def test_a_service_that_a_job_or_a_command_changes_is_left_alone() -> None:
    services = {"churn": seen(False, ended=Ended(7))}

    assert turn(0, services=services, jobs={"churn": Running(1, Stage.SWITCHING)}).actions == ()
    assert turn(0, services=services, busy=frozenset({"churn"})).actions == ()


def test_a_crash_restart_never_waits_behind_the_downloads_of_others() -> None:
    names = [f"other{number}" for number in range(30)]
    found = turn(
        0,
        services={"churn": seen(False, ended=Ended(7))},
        goals={name: goal(Stage.DOWNLOADING, name=name) for name in names},
        jobs={name: Running(1, Stage.DOWNLOADING) for name in names},
    )

    assert [type(one) for one in found.actions] == [Restart]


def test_health_is_asked_for_at_the_interval_of_the_service() -> None:
    memory, asked = Memory(), []
    for second in range(100):
        found = turn(second, memory, services={"churn": seen(spec=spec(health_interval_seconds=15))})
        memory = found.memory
        asked += [second for one in found.actions if isinstance(one, Probe)]

    assert asked == [0, 15, 30, 45, 60, 75, 90]


def test_a_hang_is_seen_after_as_many_checks_as_the_service_says() -> None:
    memory, silent = Memory(), Health(False, "no answer on 127.0.0.1:6789 (timed out)")
    check: tuple[float, Health] | None = None
    for second in range(200):
        healthy = second < 50
        found = turn(second, memory, services={"churn": seen(check=check, spec=spec(health_failures=4))})
        memory = found.memory
        for one in found.actions:
            if isinstance(one, Probe):
                check = (second + 0.5, Health(True) if healthy else silent)
            if isinstance(one, Restart):
                assert one.trouble.kind is Kind.HUNG
                assert second == 81, "the checks of 50, 60, 70 and 80 failed"
                return
    pytest.fail("it was not started again")


def test_goals_get_a_job_each_and_one_service_has_one_at_a_time() -> None:
    goals = {"churn": goal(), "fraud": goal(Stage.STAGED, name="fraud"), "done": goal(Stage.DONE, name="done")}

    assert turn(0, goals=goals).actions == (Bring("churn", 1), Bring("fraud", 1))
    assert turn(0, goals=goals, jobs={"churn": Running(1, Stage.STAGED)}).actions == (Bring("fraud", 1),)


def test_a_job_for_an_older_goal_is_ended_only_while_it_has_changed_nothing() -> None:
    goals = {"churn": goal(number=2)}

    for stage in Stage:
        found = turn(0, goals=goals, jobs={"churn": Running(1, stage)})
        early = stage in (Stage.WANTED, Stage.DOWNLOADING, Stage.WAITING)
        assert found.actions == ((Cancel("churn"),) if early else ()), stage


def test_a_job_that_gets_nowhere_is_started_again_later_and_later() -> None:
    memory, started = Memory(), []
    for second in range(1200):
        found = turn(second, memory, goals={"churn": goal()})
        memory = found.memory
        started += [second for one in found.actions if isinstance(one, Bring)]

    assert started == [0, 5, 15, 35, 75, 155, 315, 615, 915]


def looks(seconds: int, **more: object) -> list[int]:
    """When a goal that waits is looked at."""
    memory, started = Memory(), []
    for second in range(seconds):
        found = turn(second, memory, goals={"churn": goal(Stage.WAITING)}, **more)
        memory = found.memory
        started += [second for one in found.actions if isinstance(one, Bring)]
    return started


def test_what_waits_is_looked_at_again_later_and_later() -> None:
    assert looks(1400) == [0, 30, 90, 210, 450, 750, 1050, 1350]


def test_devices_that_wait_for_the_same_do_not_come_together() -> None:
    """Many devices were told the same at the same moment, or wait for the same window."""
    drawn = [step / 30 for step in range(31)]
    seconds = {looks(100, chance=chance)[2] for chance in drawn}
    assert (min(seconds), max(seconds), len(seconds)) == (45, 90, len(drawn))
    assert {looks(40, chance=chance, window_at=10.0)[1] for chance in drawn} >= {*range(15, 30)}


def test_a_window_is_not_missed_however_long_was_waited() -> None:
    assert looks(1400, window_at=900.0, chance=0.5) == [0, 23, 68, 158, 338, 563, 788, 915, 1140, 1365]


def test_what_waits_is_looked_at_when_another_service_is_settled() -> None:
    both = {"churn": goal(Stage.WAITING), "fraud": goal(name="fraud", number=2)}
    first = turn(0, goals=both)
    assert Bring("churn", 1) in first.actions
    assert turn(1, first.memory, goals=both).actions == ()
    again = turn(2, first.memory, goals={"churn": both["churn"]})
    assert again.actions == (Bring("churn", 1),)
    assert turn(3, again.memory, goals={"churn": both["churn"]}).actions == ()


def test_few_jobs_prepare_at_once_and_what_downloads_is_in_nobodys_way() -> None:
    goals = {f"s{number}": goal(name=f"s{number}") for number in range(10)}
    first = turn(0, goals=goals)
    assert len(first.actions) == 4

    downloading = {f"s{number}": Running(1, Stage.DOWNLOADING) for number in range(4)}
    assert len(turn(0, first.memory, goals=goals, jobs=downloading).actions) == 4


@dataclass
class Simulated:
    """A service that lives for a while, hangs, ends and starts, by a drawn chance."""

    random: random.Random
    spec: DesiredService
    alive: bool = True
    ended: Ended | None = None
    silent: bool = False
    check: tuple[float, Health] | None = None
    starts: list[float] = field(default_factory=list)

    def live(self) -> None:
        if self.alive and self.random.random() < 0.002:
            self.alive, self.ended = False, Ended(self.random.choice([0, 1, 137, None]), False)
        if self.alive and self.random.random() < 0.001:
            self.silent = True

    def seen(self) -> Seen:
        return Seen(self.spec, 1, self.alive, self.ended, None, self.check)

    def do(self, action: object, now: float) -> None:
        if isinstance(action, Probe):
            health = Health(False, "no answer") if self.silent else Health(True)
            self.check = (now + 0.1, health)
        elif isinstance(action, Restart):
            assert not self.alive or self.silent, "what is well is left alone"
            self.starts.append(now)
            self.alive, self.ended, self.silent = True, None, False


def simulate(services: dict[str, Simulated], seconds: float, each: Callable[[float, Memory], None]) -> Memory:
    """Turn after turn, as often as the agent asks for, and whenever something happens."""
    now, memory = 0.0, Memory()
    while now < seconds:
        for one in services.values():
            one.live()
        found = decide(View(now, {name: one.seen() for name, one in services.items()}), memory)
        memory = found.memory
        for action in found.actions:
            services[action.service].do(action, now)
        each(now, memory)
        assert found.wake >= now
        now = max(now + 0.5, min(found.wake, now + 20.0))
    return memory


@given(st.integers(0, 2**32), st.sampled_from(["never", "on-failure", "on-unhealthy", "always"]))
@settings(max_examples=times(50, 3), deadline=None)
def test_over_hours_every_service_runs_by_its_policy_and_pauses_are_kept(seed: int, policy: str) -> None:
    drawn = random.Random(seed)  # noqa: S311
    services = {f"s{number}": Simulated(drawn, spec(f"s{number}", restart=policy)) for number in range(4)}

    simulate(services, 2 * 3600, lambda now, memory: None)

    for one in services.values():
        gaps = [later - sooner for sooner, later in zip(one.starts, one.starts[1:], strict=False)]
        assert all(gap >= 10 for first, gap in enumerate(gaps) if first >= 1 and gaps[first - 1] < 300), gaps
        if policy == "always" and not one.alive:
            assert one.starts or one.ended is not None


def test_a_day_leaves_no_more_in_memory_than_an_hour() -> None:
    """24 hours of services that end, hang and are started again, with what is remembered weighed on the way."""
    drawn = random.Random(1)  # noqa: S311
    services = {f"s{number}": Simulated(drawn, spec(f"s{number}")) for number in range(times(10, 1))}
    sizes: list[tuple[float, int]] = []

    def weigh(now: float, memory: Memory) -> None:
        if not sizes or now - sizes[-1][0] > 3600:
            sizes.append((now, weight(memory)))

    simulate(services, DAY, weigh)

    assert sum(len(one.starts) for one in services.values()) > 20
    assert len(sizes) >= 23
    assert max(size for _, size in sizes[1:]) < 1.5 * sizes[1][1] + 2000, sizes


def weight(value: object) -> int:
    """The bytes of a value with all that it holds."""
    known: set[int] = set()
    left: list[object] = [value]
    total = 0
    while left:
        one = left.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, (tuple, list, set, frozenset)):
            left += [*one]
        elif hasattr(one, "__dict__"):
            left.append(vars(one))
    return total


def test_what_is_killed_of_a_service_that_runs_on_is_told_now_and_then() -> None:
    """At once, when it has doubled, and after a minute; another run begins anew."""
    memory, told = Memory(), []
    for now, count in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 7), (6, 7), (64, 7), (65, 9), (66, 0), (67, 1)]:
        found = turn(now, memory, services={"churn": seen(kills=Kills(count), check=(now, Health(True)))})
        memory = found.memory
        assert not any(isinstance(action, Restart) for action in found.actions), "its server goes on"
        told.append(memory.cares["churn"].kills.count)
    assert told == [0, 1, 2, 2, 4, 4, 4, 7, 7, 0, 1]


def test_a_service_that_does_not_answer_for_lack_of_memory_says_so() -> None:
    memory = Memory()
    for now in range(4):
        check = (float(now), Health(False, "GET / on 127.0.0.1:1 answered 503", answered=True))
        known = seen(spec=spec(memory_bytes=64_000_000, health_timeout_seconds=1), kills=Kills(2), check=check)
        found = turn(now, memory, services={"churn": known})
        memory = found.memory
        if restarts := [one for one in found.actions if isinstance(one, Restart)]:
            break
    assert restarts[0].trouble.kind is Kind.UNHEALTHY
    assert "reached its memory limit of 61 MiB, and a process of it was killed, 2 times" in restarts[0].trouble.reason
