"""What is read of control groups of either version about a lack of memory, and how it is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.reconcile.lack import told, with_kills
from edge_agent.runtimes.cgroups import counters_of, kill_counters
from edge_agent.runtimes.kills import NONE, Kills, read_kills
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
    assert found.reason.startswith("it reached its memory limit of 64.0 MB, and a process of it was killed, once since")
    assert with_kills(found, Kills(1), 64_000_000) == found
    assert (told(Kills(2), None) or "").startswith("the device had no memory left, and a process of it was killed, 2 t")
    assert told(Kills(2, by_limit=False), 1 << 20) == told(Kills(2), None)
