"""The stages of a service on the way to its goal: one table; pure.

A stage is recorded before its effect, so a record says what may have been done, never less. The table says for each
stage which ones may follow, and what a start of the agent after a crash makes of it. The rule is to return to the last
good version; the exceptions are stages in which nothing of it was touched, and a probation, in which the new version
was healthy. What a crash interrupts is counted, and after ``ATTEMPTS`` of them it is given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.state.goals import Goal, Stage

# So many interrupted tries of one goal are a loop, such as a version that takes the device down with it.
ATTEMPTS = 3


@dataclass(frozen=True)
class Boot:
    """What a start after a crash makes of a stage.

    ``stage`` is where it goes on, ``alone`` where there is no last good version to return to; ``given_up`` and
    ``given_up_alone`` are the same once it was counted ``ATTEMPTS`` times. ``counted``: it counts as a try that failed.
    """

    stage: Stage
    alone: Stage
    given_up: Stage
    given_up_alone: Stage
    counted: bool


@dataclass(frozen=True)
class Row:
    """A stage: what it means, what may follow, and what a start after a crash makes of it."""

    means: str
    next: frozenset[Stage]
    boot: Boot


@dataclass(frozen=True)
class Entry:
    """A stage to enter, and whether that counts as a try that failed."""

    stage: Stage
    counted: bool = False


def _as_it_was(stage: Stage) -> Boot:
    return Boot(stage, stage, stage, stage, counted=False)


def _row(means: str, *following: Stage, boot: Boot) -> Row:
    return Row(means, frozenset(following), boot)


_S = Stage
TABLE: Mapping[Stage, Row] = {
    _S.WANTED: _row(
        "accepted, and nothing was done for it yet",
        _S.DOWNLOADING, _S.STAGED, _S.WAITING, _S.SWITCHING, _S.RETURNING, _S.DONE, _S.FAILED,
        boot=_as_it_was(_S.WANTED),
    ),
    _S.DOWNLOADING: _row(
        "the image is being fetched; what came is kept, and the version that runs is not touched",
        _S.STAGED, _S.WAITING, _S.FAILED, boot=_as_it_was(_S.DOWNLOADING),
    ),
    _S.STAGED: _row(
        "the image is here, verified and unpacked; the version that runs is not touched",
        _S.DOWNLOADING, _S.WAITING, _S.SWITCHING, _S.DONE, _S.FAILED, boot=_as_it_was(_S.STAGED),
    ),
    _S.WAITING: _row(
        "a condition is not met, which the reason names",
        _S.WAITING, _S.DOWNLOADING, _S.STAGED, _S.SWITCHING, _S.DONE, _S.FAILED, boot=_as_it_was(_S.WAITING),
    ),
    _S.SWITCHING: _row(
        "the new version is started and the one that ran is ended, in this order where both can be at once",
        _S.PROBATION, _S.RETURNING, _S.DONE, _S.FAILED, _S.WANTED,
        boot=Boot(_S.RETURNING, _S.WANTED, _S.RETURNING, _S.FAILED, counted=True),
    ),
    _S.PROBATION: _row(
        "the new version runs and is healthy, and must stay so for a while",
        _S.PROBATION, _S.RETURNING, _S.DONE, _S.FAILED,
        boot=Boot(_S.PROBATION, _S.PROBATION, _S.RETURNING, _S.FAILED, counted=True),
    ),
    _S.RETURNING: _row(
        "the last good version is started again",
        _S.RETURNING, _S.WANTED, _S.DONE, _S.FAILED,
        boot=Boot(_S.RETURNING, _S.FAILED, _S.RETURNING, _S.FAILED, counted=True),
    ),
    _S.DONE: _row("it is as desired", boot=_as_it_was(_S.DONE)),
    _S.FAILED: _row(
        "it was given up, with the reason; the last good version runs, where there is one", boot=_as_it_was(_S.FAILED)
    ),
}  # fmt: skip


def may_follow(stage: Stage, following: Stage) -> bool:
    """Whether ``following`` may be entered from ``stage``."""
    return following in TABLE[stage].next


def after_start(goal: Goal, *, returnable: bool) -> Entry | None:
    """What a start after a crash makes of ``goal``; ``None`` where it stays as it is.

    ``returnable``: there is a version to return to. What was to be stopped or removed is stopped again, however often.
    """
    boot = TABLE[goal.stage].boot
    if boot.counted and goal.spec.status != "running":
        return Entry(Stage.WANTED)
    attempts = goal.attempts + boot.counted
    if attempts >= ATTEMPTS:
        stage = boot.given_up if returnable else boot.given_up_alone
    else:
        stage = boot.stage if returnable else boot.alone
    return None if stage is goal.stage and not boot.counted else Entry(stage, boot.counted)
