"""The table of stages, and the gates of steps: both are judged without a device."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from edge_agent.config.configuration import Updates
from edge_agent.config.windows import Window
from edge_agent.reconcile.gates import (
    DiskSpace,
    Gate,
    MainsPower,
    Memory,
    Network,
    Outlook,
    Unlocked,
    UpdateLock,
    UpdateWindow,
    first_closed,
)
from edge_agent.reconcile.outlook import look, read_lock
from edge_agent.reconcile.plan import Fetch, Ports, Switch, plan_goal, ports
from edge_agent.reconcile.stages import ATTEMPTS, TABLE, Entry, after_start, may_follow
from edge_agent.state.goals import Goal, Stage
from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edgepack.state.desired import DesiredService
from edgepack.state.reported import ServiceState
from edgepack.state.service_auth import KeyAuth
from tests.edge_agent.support.fake_runtime import V1, V2, service

NOW = Outlook(datetime(2026, 11, 30, 15, 0), "this boot", 1 << 30, 1 << 28, online=True, on_mains=True)  # noqa: DTZ001


def goal(stage: Stage, attempts: int = 0, **more: str) -> Goal:
    return Goal(service(V2, **more), "device", 3, stage, attempts)


def test_every_stage_has_a_row_and_what_follows_a_crash_may_follow() -> None:
    assert set(TABLE) == set(Stage)
    for stage, row in TABLE.items():
        boot = row.boot
        for entered in (boot.stage, boot.alone, boot.given_up, boot.given_up_alone):
            assert (entered is stage and not boot.counted) or may_follow(stage, entered)


def test_every_stage_leads_to_an_end_and_an_end_leads_nowhere() -> None:
    assert TABLE[Stage.DONE].next == TABLE[Stage.FAILED].next == frozenset()
    ending = {Stage.DONE, Stage.FAILED}
    for _ in Stage:
        ending |= {stage for stage, row in TABLE.items() if row.next & ending}
    assert ending == set(Stage)


@pytest.mark.parametrize("stage", [Stage.WANTED, Stage.DOWNLOADING, Stage.STAGED, Stage.WAITING])
def test_where_nothing_was_touched_a_start_goes_on_however_often(stage: Stage) -> None:
    assert after_start(goal(stage, 100), returnable=True) is None


@pytest.mark.parametrize(
    ("stage", "attempts", "returnable", "entered"),
    [
        (Stage.SWITCHING, 0, True, Stage.RETURNING),
        (Stage.SWITCHING, 2, True, Stage.RETURNING),
        (Stage.SWITCHING, 0, False, Stage.WANTED),
        (Stage.SWITCHING, 2, False, Stage.FAILED),
        (Stage.PROBATION, 0, True, Stage.PROBATION),
        (Stage.PROBATION, 2, True, Stage.RETURNING),
        (Stage.PROBATION, 2, False, Stage.FAILED),
        (Stage.RETURNING, 0, True, Stage.RETURNING),
        (Stage.RETURNING, 7, True, Stage.RETURNING),
        (Stage.RETURNING, 0, False, Stage.FAILED),
    ],
)
def test_what_was_touched_is_returned_from_and_counted(
    stage: Stage, attempts: int, returnable: bool, entered: Stage
) -> None:
    assert after_start(goal(stage, attempts), returnable=returnable) == Entry(entered, counted=True)
    assert ATTEMPTS == 3


@pytest.mark.parametrize("stage", [Stage.SWITCHING, Stage.RETURNING])
def test_what_was_to_be_stopped_is_stopped_again_however_often(stage: Stage) -> None:
    assert after_start(goal(stage, 9, status="stopped"), returnable=True) == Entry(Stage.WANTED)


@pytest.mark.parametrize(
    ("gate", "seen", "reason"),
    [
        (DiskSpace(1 << 20), replace(NOW, free_bytes=1 << 19), "1.0 MB of disk space must be free, and 524.3 kB are"),
        (Memory(1 << 29), NOW, "512 MiB of memory must be available, and 256 MiB are"),
        (Network(), replace(NOW, online=False), "there is no network"),
        (
            UpdateWindow((Window(60, 120, (1,)), Window(23 * 60, 60))), NOW,
            "the next window for updates opens on 2026-11-30 at 23:00",
        ),
        (
            Unlocked(), replace(NOW, lock=UpdateLock("line 3", "this boot", 60, 100)),
            "line 3 holds the lock on updates, for 40 seconds more at most",
        ),
        (MainsPower(), replace(NOW, on_mains=False), "the device runs on battery"),
    ],
)  # fmt: skip
def test_a_closed_gate_says_why(gate: Gate, seen: Outlook, reason: str) -> None:
    assert first_closed([DiskSpace(0), gate], seen) == reason


@pytest.mark.parametrize(
    "gate",
    [DiskSpace(1 << 30), Memory(1 << 28), Network(), UpdateWindow(()), UpdateWindow((Window(900, 901),)), Unlocked(),
     MainsPower()],
)  # fmt: skip
def test_an_open_gate_says_nothing(gate: Gate) -> None:
    assert gate.closed(NOW) is None


def test_what_cannot_be_seen_closes_nothing() -> None:
    assert Memory(1 << 40).closed(replace(NOW, available_bytes=None)) is None


@pytest.mark.parametrize(
    "lock",
    [UpdateLock("x", "another boot", 1, 100), UpdateLock("x", "", 1, 100), UpdateLock("x", "this boot", 100, 100)],
)
def test_a_lock_of_an_earlier_boot_or_that_is_overdue_does_not_count(lock: UpdateLock) -> None:
    assert Unlocked().closed(replace(NOW, lock=lock)) is None


def test_a_lock_file_is_read_as_the_page_says_to_write_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = (
        """printf '{"owner": "line 3", "boot_id": "%s", "uptime_seconds": %s, "ttl_seconds": 600}' """
        '"$(cat /proc/sys/kernel/random/boot_id)" "$(cut -d" " -f1 /proc/uptime)" > lock'
    )
    page = Path(__file__).parents[2] / "docs/how-to/device.md"
    assert command.replace("> lock", "> /run/edge-update.lock") in page.read_text()
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)

    seen = look(tmp_path, path)
    assert seen.lock is not None
    assert (seen.lock.owner, seen.lock.ttl_seconds, seen.lock.age_seconds < 60) == ("line 3", 600, True)
    assert Unlocked().closed(seen) is not None


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"owner": 3, "boot_id": 4, "ttl_seconds": "x"}', b"{" * 9999])
def test_any_other_lock_file_holds_for_an_hour_from_when_it_was_written(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "lock"
    path.write_bytes(data)
    found = read_lock(path, "this boot")
    assert found is not None
    assert (found.owner, found.boot_id, found.ttl_seconds) == (str(path), "this boot", 3600)
    long_ago = path.stat().st_mtime - 400 * 24 * 3600
    os.utime(path, (long_ago, long_ago))  # before this boot, whenever that was
    found = read_lock(path, "this boot")
    assert found is not None
    assert Unlocked().closed(replace(NOW, lock=found)) is None


def test_no_lock_file_is_no_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "absent", "x") is None
    assert read_lock(tmp_path, "x") is None


def test_the_machine_is_looked_at(tmp_path: Path) -> None:
    found = look(tmp_path / "not there", now=0.0)
    assert found.free_bytes > 0
    assert (found.available_bytes or 0) > 0
    assert found.moment.timestamp() == 0
    assert json.dumps(found.boot_id)


def record(spec: DesiredService, state: ServiceState = ServiceState.HEALTHY) -> ServiceRecord:
    current = Deployment(1, spec, Outcome.HEALTHY, "process")
    return ServiceRecord(spec.name, state, "process", None, current, (current,))


def gates_of(one: Goal, services: dict[str, ServiceRecord], updates: Updates) -> list[str]:
    (switch,) = [step for step in plan_goal(one, services, updates, 0) if isinstance(step, Switch)]
    return [type(gate).__name__ for gate in switch.gates]


def test_what_must_be_so_before_a_step_is_declared_on_it() -> None:
    runs = {"churn": record(service(V1))}
    updates = Updates(power="mains")

    assert gates_of(goal(Stage.STAGED), runs, updates) == ["Memory", "UpdateWindow", "Unlocked", "MainsPower"]
    assert gates_of(goal(Stage.STAGED), runs, Updates()) == ["Memory", "UpdateWindow", "Unlocked"]
    # Nothing is gained where nothing runs, and an operator who asks on the device means now.
    assert gates_of(goal(Stage.STAGED), {}, updates) == []
    assert gates_of(goal(Stage.STAGED), {"churn": record(service(V1), ServiceState.STOPPED)}, updates) == []
    assert gates_of(replace(goal(Stage.STAGED), origin="command"), runs, updates) == []
    # Other keys are for now, and touch nothing that runs.
    keys = [KeyAuth(f"sha256:{letter * 64}", f"sha256:{'b' * 64}") for letter in "ac"]
    keyed = {"churn": record(service(V2, auth=keys[0]))}
    assert gates_of(replace(goal(Stage.STAGED), spec=service(V2, auth=keys[1])), keyed, updates) == []
    assert len(gates_of(replace(goal(Stage.STAGED), spec=service(V1, auth=keys[1])), keyed, updates)) == 4
    fetch = plan_goal(goal(Stage.WANTED), {}, updates, 1 << 20)[0]
    assert fetch == Fetch("churn", V2, (DiskSpace(1 << 20),))


def wanted(**ports_by_name: int) -> dict[str, Goal]:
    return {name: Goal(service(V2, name, port), "device", 3) for name, port in ports_by_name.items()}


def running(**ports_by_name: int) -> dict[str, ServiceRecord]:
    return {name: record(service(V1, name, port)) for name, port in ports_by_name.items()}


def test_who_leaves_a_port_goes_first_and_an_exchange_is_made_at_once() -> None:
    assert ports("one", running(one=1, two=2), wanted(one=1)) == Ports(frozenset({"one"}))
    assert ports("one", running(two=2), wanted(one=2)) == Ports(frozenset({"one"}), "port 2 is that of service two")
    moving = wanted(one=2, two=3)
    assert ports("one", running(one=1, two=2), moving).waits == "port 2 is still that of service two"
    assert ports("two", running(one=1, two=2), moving) == Ports(frozenset({"two"}))
    both = Ports(frozenset({"one", "two"}))
    assert ports("one", running(one=1, two=2), wanted(one=2, two=1)) == both
    assert ports("two", running(one=1, two=2), wanted(one=2, two=1)) == both
    ring = wanted(one=2, two=3, three=1)
    assert ports("two", running(one=1, two=2, three=3), ring) == Ports(frozenset(ring))
    # One of an exchange needs the port of a service that stays.
    stays = running(one=1, two=2, other=2)
    assert ports("one", stays, wanted(one=2, two=1)).waits == "port 2 is that of service other"
    assert ports("two", stays, wanted(one=2, two=1)).waits == "port 2 is that of service other"
