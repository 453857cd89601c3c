"""When a service is started again: its policy, the pauses, and what is told apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.reconcile.probe import Health
from edge_agent.reconcile.restarts import (
    RESET_SECONDS,
    Checks,
    Ended,
    History,
    Kind,
    Trouble,
    delay,
    of_end,
    starts_again,
)

CRASHED = Trouble(Kind.CRASHED, "it exited with code 7")


@pytest.mark.parametrize(
    ("policy", "kinds"),
    [
        ("never", {Kind.GONE}),
        ("on-failure", {Kind.GONE, Kind.CRASHED, Kind.OUT_OF_MEMORY}),
        ("on-unhealthy", {Kind.GONE, Kind.CRASHED, Kind.OUT_OF_MEMORY, Kind.HUNG, Kind.UNHEALTHY, Kind.FAULTY}),
        ("always", set(Kind)),
    ],
)
def test_a_policy_starts_again_what_its_name_says(policy: str, kinds: set[Kind]) -> None:
    assert {kind for kind in Kind if starts_again(policy, kind)} == kinds  # type: ignore[arg-type]


def test_the_first_restart_is_at_once_and_the_others_wait_longer_and_longer() -> None:
    assert [delay(count) for count in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert delay(10**9) == 300


@given(st.lists(st.tuples(st.floats(0, 2000), st.floats(0, 400)), max_size=20))
@settings(max_examples=40, deadline=None)
def test_pauses_grow_until_a_run_was_long_enough(runs: list[tuple[float, float]]) -> None:
    """Whatever the runs last: never two restarts without their pause, and a long run begins anew."""
    now, history = 0.0, History(0.0)
    for lasted, late in runs:
        now += lasted
        ran = now - history.started
        history = history.met(CRASHED, now)
        expected = 0.0 if ran >= RESET_SECONDS else delay(history.count)
        assert history.due == now + expected
        now = history.due + late
        history = history.restarted(now)
        assert history.due is None
        assert history.started == now
    assert history.total == len(runs)


def test_a_crash_loop_is_told_as_one_with_its_last_end_and_the_pause() -> None:
    now, history = 0.0, History(0.0)
    reasons = []
    for _ in range(4):
        history = history.met(CRASHED, now)
        reasons.append(history.reason)
        now = history.due or now
        history = history.restarted(now)

    assert reasons == [
        "it exited with code 7",
        "it exited with code 7; it starts again 10 seconds later",
        "it exited with code 7; it starts again 20 seconds later",
        "crash loop: it exited with code 7, after 3 times of being started again; it starts again 40 seconds later",
    ]
    assert history.reason == "it was started again 4 times, last because it exited with code 7"
    assert history.settled(now + RESET_SECONDS - 1).reason is not None
    assert history.settled(now + RESET_SECONDS).reason is None
    assert history.settled(now + RESET_SECONDS).total == 4


@pytest.mark.parametrize(
    ("ended", "kind", "said"),
    [
        (None, Kind.GONE, "it is not running"),
        (Ended(None), Kind.GONE, "it is not running"),
        (Ended(0), Kind.ENDED, "it exited with code 0"),
        (Ended(7), Kind.CRASHED, "it exited with code 7"),
        (Ended(139), Kind.CRASHED, "it was ended by the signal SIGSEGV (exit code 139)"),
        (Ended(137, out_of_memory=True), Kind.OUT_OF_MEMORY, "out of memory: it used all of 61 MiB and was killed"),
    ],
)
def test_how_a_service_ended_is_told_apart(ended: Ended | None, kind: Kind, said: str) -> None:
    assert of_end(ended, 64_000_000) == Trouble(kind, said)


SILENT = Health(False, "no answer on 127.0.0.1:6789 (timed out)")
REFUSING = Health(False, "GET / on 127.0.0.1:6789 answered 503", answered=True)


def after(*healths: Health, start: float = 0.0, grace: float = 0.0) -> Checks:
    checks = Checks(start)
    for number, health in enumerate(healths):
        checks = checks.after(health, start + 10.0 * number, grace)
    return checks


def test_a_service_hangs_when_no_check_in_a_row_is_answered() -> None:
    trouble = after(Health(True), SILENT, SILENT, SILENT).trouble(3)

    assert trouble is not None
    assert trouble.kind is Kind.HUNG
    assert trouble.reason == f"it hangs: it runs, and did not answer 3 health checks in a row ({SILENT.reason})"


def test_a_service_that_answers_that_it_is_not_well_does_not_hang() -> None:
    trouble = after(Health(True), SILENT, REFUSING, REFUSING).trouble(3)

    assert trouble is not None
    assert trouble.kind is Kind.UNHEALTHY
    assert trouble.reason == f"unhealthy: it failed 3 health checks in a row ({REFUSING.reason})"


def test_one_good_answer_begins_the_row_anew() -> None:
    assert after(SILENT, SILENT, Health(True), SILENT, SILENT).trouble(3) is None
    assert after(SILENT, SILENT, Health(True), SILENT, SILENT).trouble(2) is not None


def test_checks_do_not_count_while_a_service_starts() -> None:
    assert after(SILENT, SILENT, SILENT, grace=60).trouble(1) is None
    assert after(*[SILENT] * 9, grace=60).failures == 3, "of 0 to 80 seconds, those from 60 on"
    assert after(Health(True), SILENT, grace=60).failures == 1, "it was healthy once"


def test_what_is_remembered_of_a_service_does_not_grow() -> None:
    history, checks, now = History(0.0), Checks(0.0), 0.0
    for _ in range(10_000):
        now += 1
        history = history.met(CRASHED, now).restarted(now)
        checks = checks.after(SILENT, now, 0.0)
    assert replace(history, count=0, total=0) == replace(History(now), first=history.first, trouble=CRASHED)
    assert (history.due, checks.last) == (None, SILENT)
