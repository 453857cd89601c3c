"""The faults of the crash matrix, brought about and taken away again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from tests.edge_agent.support.agent import Agent
from tests.edgepack.support.registry_simulator import Simulator


def kept_open(agent: Agent) -> sqlite3.Connection:
    """A connection that keeps what is written to the database in its log, as it is while a transaction is written."""
    db = sqlite3.connect(agent.root / "state/agent.db")
    db.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    return db


def tear(agent: Agent) -> None:
    """Cut off the end of what was written last: of the database's log, or of what is being downloaded."""
    files = [agent.root / "state/agent.db-wal", *(agent.root / "store/ingest").glob("*.partial")]
    there = [path for path in files if path.exists() and path.stat().st_size > 100]
    if there:
        last = max(there, key=lambda path: path.stat().st_mtime_ns)
        os.truncate(last, last.stat().st_size - 100)


def break_it(simulator: Simulator, disk: Path, fault: str) -> None:
    """Bring about the fault, of the registry or of the disk that is mounted at ``disk``."""
    if fault == "404":
        simulator.manifests, simulator.hidden = {}, simulator.manifests  # type: ignore[attr-defined]
    elif fault == "500":
        simulator.busy = [(500, None)] * 1000
    elif fault == "nothing":
        simulator.silent = True
    elif fault == "slow":
        simulator.piece_seconds = 0.05
    elif fault == "wrong bytes":
        simulator.altered = set(simulator.blobs)
    elif fault in ("full disk", "full at start"):
        with (disk / "ballast").open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))


def heal(simulator: Simulator, disk: Path) -> None:
    """Take every fault away again."""
    if hasattr(simulator, "hidden"):
        simulator.manifests = simulator.hidden
        del simulator.hidden
    simulator.busy, simulator.silent, simulator.piece_seconds, simulator.altered = [], False, 0.0, set()
    (disk / "ballast").unlink(missing_ok=True)
