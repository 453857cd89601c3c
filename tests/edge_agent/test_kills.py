"""What is read of control groups of either version about a lack of memory, and how it is told."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge_agent.reconcile.lack import told, with_kills
from edge_agent.runtimes.cgroups import counters_of, kill_counters
from edge_agent.runtimes.engine.oom import ended_for_memory
from edge_agent.runtimes.instances import Mark, read_mark, tail, write_mark
from edge_agent.runtimes.kills import NONE, Kills, read_kills
from edge_agent.runtimes.supervisor.memory import MemoryWatch
from edgepack.state.reported import ReportedService, ServiceState

EVENTS = "low 0\nhigh 0\nmax {reached}\noom 1\noom_kill {kills}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"


def group(folder: Path, *, kills: int, reached: int, version: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "memory.events").write_text(EVENTS.format(kills=kills, reached=reached))
    else:
        (folder / "memory.oom_control").write_text(CONTROL.format(kills=kills))
        (folder / "memory.failcnt").write_text(f"{reached}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_kills_are_counted_once_wherever_the_kernel_counts_them(version: int, tmp_path: Path) -> None:
    outer = tmp_path / ("memory/edgepack/abc-churn" if version == 1 else "edgepack/abc-churn")
    # Version 1 counts in the container's own group alone, version 2 in those around it too.
    group(outer, kills=0 if version == 1 else 3, reached=9, version=version)
    group(outer / "container", kills=3, reached=0, version=version)
    assert read_kills(kill_counters("abc-churn", tmp_path)) == Kills(3)
    assert kill_counters("another", tmp_path) == ()

    # Nothing of it ever came to a limit: it was the device that had no memory left.
    group(outer, kills=3, reached=0, version=version)
    assert read_kills(kill_counters("abc-churn", tmp_path)) == Kills(3, by_limit=False)


def test_what_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("oom_kill many\n")
    assert read_kills([tmp_path / "memory.events", tmp_path / "absent/memory.oom_control"]) == NONE
    # An engine elsewhere tells only that there was something.
    assert read_kills([], at_least=1) == Kills(1)


def test_the_group_of_a_process_counts_only_for_its_container() -> None:
    assert counters_of(os.getpid(), "no such container") == ()
    assert counters_of(0, "any") == ()
    assert counters_of(2**22 + 1, "any") == ()


def test_a_service_that_runs_says_once_what_was_killed_of_it() -> None:
    plain = ReportedService("churn", ServiceState.HEALTHY, None, None, 1, "crun")
    assert with_kills(plain, NONE, 1 << 20) == plain
    found = with_kills(plain, Kills(1), 64_000_000)
    assert found.memory_kills == 1
    assert found.reason is not None
    assert found.reason.startswith("it reached its memory limit of 61 MiB, and a process of it was killed, once since")
    assert with_kills(found, Kills(1), 64_000_000) == found
    assert (told(Kills(2), None) or "").startswith("the device had no memory left, and a process of it was killed, 2 t")
    assert told(Kills(2, by_limit=False), 1 << 20) == told(Kills(2), None)


@pytest.mark.parametrize(
    ("code", "told", "limited", "ago", "expected"),
    [
        (137, True, True, None, True),  # nobody but the engine tells
        (137, True, True, 5, True),
        (137, False, True, 5, True),
        (137, False, False, 5, False),
        (1, True, True, 5, True),  # its worker was killed, and so it ended
        (1, True, True, None, False),
        (1, True, True, 3600, False),
        (137, True, True, 3600, False),
        (0, True, True, 5, False),
        (1, False, True, 5, False),
        (None, True, True, 5, False),
    ],
)
def test_an_end_long_after_something_was_killed_is_no_lack_of_memory(
    code: int | None, told: bool, limited: bool, ago: int | None, expected: bool, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    at = int(1e6 * (time.clock_gettime(time.CLOCK_MONOTONIC_RAW) - 10 - (ago or 0)))
    log.write_text(f"6,1,{max(at, 0)},-;oom-kill:task_memcg=/docker/{'abc' if ago is not None else 'other'},pid=1\n")
    ended = datetime.now(UTC) - timedelta(seconds=10)
    for finished in (
        f"{ended:%Y-%m-%dT%H:%M:%S}.123456789Z",
        ended.astimezone(timezone(timedelta(hours=2))).isoformat(),
    ):
        found = ended_for_memory(
            "abc", code=code, told=told, limited=limited, finished=finished, log=str(log)
        )  # fmt: skip
        assert found is expected
    for unknown in ("", "0001-01-01T00:00:00Z", "no time"):
        found = ended_for_memory("abc", code=code, told=told, limited=limited, finished=unknown, log=str(log))
        assert found is (told and code == 137)


def test_a_kill_counts_as_the_cause_of_an_end_only_shortly_before_it(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom 0\noom_kill 2\n")
    watch = MemoryWatch(str(events))
    assert (watch.watches, watch.killed(0.0)) == (True, False)
    events.write_text("oom 1\noom_kill 3\n")
    watch.look(100.0)
    assert (watch.killed(130.0), watch.killed(3600.0)) == (True, False)
    events.write_text("oom 1\noom_kill 4\n")
    assert watch.killed(3600.0)
    assert not MemoryWatch(None).watches


def test_the_last_words_are_those_of_the_instance_however_its_log_went_on(tmp_path: Path) -> None:
    path = tmp_path / "churn.log"

    def words(mark: Mark | None) -> str:
        return tail(path, 3, mark)

    write_mark(tmp_path, path)
    path.write_text("old\n")
    assert words(read_mark(tmp_path)) == "old\n"
    write_mark(tmp_path, path)
    mark = read_mark(tmp_path)
    assert (words(mark), words(None)) == ("", "old\n")
    with path.open("a") as file:
        file.write("new\n")
    assert words(mark) == "new\n"
    path.rename(f"{path}.1")  # as when it is full
    path.write_text("newer\n")
    assert words(mark) == "new\nnewer\n"
    path.rename(f"{path}.1")
    path.write_text("newest\n")
    assert words(mark) == "newer\nnewest\n"
    assert read_mark(tmp_path / "absent") is None
