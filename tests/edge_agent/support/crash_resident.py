"""The crash matrix with the resident agent: what it makes of a crash, and of a job of its own that is killed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_agent.state.goals import Stage
from tests.edge_agent.support.agent import ROOT, Agent
from tests.edge_agent.support.crash_faults import break_it, heal
from tests.edge_agent.support.crash_matrix import (
    Bench,
    Row,
    clear,
    expected,
    finished,
    heard,
    killed_at,
    old_and_new,
)
from tests.edge_agent.support.points import worth
from tests.edge_agent.support.resident import Resident
from tests.support.ports import free_port

RESIDENT_FAULTS = ("broker gone", "full at start")
_BEFORE = ["Wanted", "Downloading", "Staged", "Switching", "Probation", "Done"]
_WAIT = 120.0


@dataclass
class OffDisk(Resident):
    """A resident agent whose configuration and log are not on the device's disk, which may be full."""

    place: Path = Path()

    @property
    def folder(self) -> Path:
        return self.place


@contextmanager
def resident(
    bench: Bench, agent: Agent, *, broker: bool = False, environment: dict[str, str] | None = None
) -> Iterator[OffDisk]:
    """The agent of a device, with the registry as its source; not started yet. It is killed at the end."""
    place = bench.folder.parent / "resident"
    place.mkdir(exist_ok=True)
    (place / "agent.log").unlink(missing_ok=True)
    made = OffDisk(agent, bench.kind, place=place)
    made.environment = environment or {}
    registry = {"registry": f"127.0.0.1:{bench.simulator.port}", "plain_http": True}
    made.more = {"sources": [registry], "disk": {"floor_bytes": 0}}
    if broker:
        made.more["broker"] = {"url": f"mqtt://127.0.0.1:{free_port()}"}
    try:
        yield made
    finally:
        if made.process is not None:
            made.end(9)


def listen(agent: Agent) -> None:
    """Let the device's database keep every stage that is recorded from now on, in their order."""
    with sqlite3.connect(agent.root / "state/agent.db", timeout=30) as db:
        db.execute("CREATE TABLE IF NOT EXISTS heard (stage TEXT)")
        db.execute("DELETE FROM heard")
        hears = "AFTER INSERT ON goals BEGIN INSERT INTO heard VALUES (NEW.stage); END"
        db.execute(f"CREATE TRIGGER IF NOT EXISTS hears {hears}")
    db.close()


def chain_of(agent: Agent) -> list[str]:
    """The stages that were recorded since ``listen``."""
    db = sqlite3.connect(agent.root / "state/agent.db", timeout=30)
    try:
        return [row[0] for row in db.execute("SELECT stage FROM heard ORDER BY rowid")]
    finally:
        db.close()


def try_start(bench: Bench, operation: str, at: int, fault: str, *, device_too: bool) -> Row:
    """Kill ``operation`` at its ``at``-th point; the resident agent starts with ``fault``, and then without."""
    agent = bench.agent(operation)
    try:
        with resident(bench, agent, broker=fault == "broker gone") as made:
            return _started(bench, agent, made, operation, at, fault, device_too=device_too)
    finally:
        heal(bench.simulator, bench.folder)
        clear(bench, agent)


def _started(
    bench: Bench, agent: Agent, made: Resident, operation: str, at: int, fault: str, *, device_too: bool
) -> Row:
    old, new = old_and_new(operation)
    name = killed_at(bench, agent, operation, at)
    if device_too:
        bench.down(agent)
    found = bench.goal(agent)
    where = (bench.runtime, operation, f"{at} {name}", fault)
    listen(agent)
    break_it(bench.simulator, bench.folder, fault)
    made.start()
    if fault == "broker gone":
        made.wait(lambda: settled(bench, agent) and heard(agent) in (old, new), _WAIT)
        chain = chain_of(agent)
        whole = expected(bench, agent, operation, found, "none", chain)
        assert chain == whole, (where, found, chain, made.log[-2000:])
    elif old is not None:
        made.wait(lambda: heard(agent) in (old, new), _WAIT)
    answers = heard(agent)
    assert made.process is not None
    assert made.process.poll() is None, (where, made.log[-2000:])
    chain = chain_of(agent)
    if fault == "full at start":
        heal(bench.simulator, bench.folder)
        made.end()
        made.start()
        made.wait(lambda: settled(bench, agent) and heard(agent) in (old, new), _WAIT)
    made.end()
    finished(bench, agent, operation, where)
    return Row(*where, found.value if found is not None else "-", tuple(chain), answers, heard(agent))


def settled(bench: Bench, agent: Agent) -> bool:
    """Whether nothing is left to be done."""
    return bench.goal(agent) in (None, Stage.DONE, Stage.FAILED)


def job_points(bench: Bench, operation: str) -> list[str]:
    """The points of the job that does ``operation`` in a resident agent, in order."""
    agent = bench.agent(operation)
    try:
        log = bench.folder.parent / "job.log"
        log.unlink(missing_ok=True)
        with resident(bench, agent, environment=_killing(agent, 0, log)) as made:
            made.start()
            bench.desire(agent, operation)
            made.wait(lambda: bench.goal(agent) is Stage.DONE, _WAIT)
        return log.read_text().splitlines()
    finally:
        clear(bench, agent)


def _killing(agent: Agent, at: int, log: Path) -> dict[str, str]:
    folder = Path(__file__).with_name("killed_job")
    return {
        "EDGEPACK_KILLED_JOB": f"{at}:{agent.root}:{log}", "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
    }  # fmt: skip


def try_job(bench: Bench, operation: str, at: int) -> Row:
    """Kill the job that does ``operation`` at its ``at``-th point, while its agent runs on."""
    agent = bench.agent(operation)
    log = bench.folder.parent / "job.log"
    log.unlink(missing_ok=True)
    new = old_and_new(operation)[1]
    try:
        with resident(bench, agent, environment=_killing(agent, at, log)) as made:
            made.start()
            listen(agent)
            bench.desire(agent, operation)
            made.wait(lambda: bench.goal(agent) is Stage.DONE and heard(agent) == new, _WAIT)
            names = log.read_text().splitlines()
            where = (bench.runtime, operation, f"{at} {names[-1]}", "job killed")
            assert len(names) == at, (where, names)
            found = next((Stage(name) for name in reversed(names) if name[0].isupper()), Stage.WANTED)
            chain = chain_of(agent)
            before = _BEFORE[: _BEFORE.index(found.value) + 1]
            assert chain[: len(before)] == before, (where, chain, made.log[-2000:])
            after = chain[len(before) :]
            # Its agent has not ended, so a probation is gone on with, and is no other try.
            whole = ["Done"] if found is Stage.PROBATION else expected(bench, agent, operation, found, "none", after)
            assert after == whole, (where, found, after, made.log[-2000:])
            assert made.process is not None
            assert made.process.poll() is None, where
            return Row(*where, found.value, tuple(after), heard(agent), heard(agent))
    finally:
        clear(bench, agent)


__all__ = ["RESIDENT_FAULTS", "job_points", "resident", "try_job", "try_start", "worth"]
