"""What the device remembers, in SQLite: which service runs which image, and how each deployment ended.

The next state is written, durably, before the effect that it announces (``synchronous=FULL``): a power cut leaves
either the old state or the intention, and the same command finishes from there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from edgepack.desired import DesiredService, read_service
from edgepack.errors import EdgepackError, disk_errors
from edgepack.fields import Fields, raise_all
from edgepack.oci.digest import Digest
from edgepack.reported import ServiceState

_SCHEMA = """
CREATE TABLE IF NOT EXISTS services (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, runtime TEXT NOT NULL, reason TEXT,
    deployment INTEGER NOT NULL REFERENCES deployments (id)
);
CREATE TABLE IF NOT EXISTS deployments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, image TEXT NOT NULL, spec TEXT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Outcome(StrEnum):
    """How a deployment ended."""

    TRYING = "trying"
    HEALTHY = "healthy"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Deployment:
    """One try at running an image as a service."""

    id: int
    spec: DesiredService
    outcome: Outcome


@dataclass(frozen=True)
class ServiceRecord:
    """A service as it was last left. ``last_good`` is the deployment that a rollback returns to."""

    name: str
    state: ServiceState
    runtime: str
    reason: str | None
    current: Deployment
    last_good: Deployment | None


class StateFile:
    """The database at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._transaction() as db:
            db.executescript(_SCHEMA)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with disk_errors(self._path):
            try:
                db = sqlite3.connect(self._path, timeout=30, isolation_level="IMMEDIATE")
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
                try:
                    with db:
                        yield db
                finally:
                    db.close()
            except sqlite3.OperationalError as error:
                raise EdgepackError(
                    f"the device's state cannot be used ({error})", where=self._path, hint="check the disk"
                ) from error

    def services(self) -> dict[str, ServiceRecord]:
        """Every service by its name."""
        with self._transaction() as db:
            rows = db.execute("SELECT name, state, runtime, reason, deployment FROM services ORDER BY name").fetchall()
            return {
                name: ServiceRecord(
                    name, ServiceState(state), runtime, reason, _deployment(db, deployment),
                    _last_good(db, name, deployment),
                )
                for name, state, runtime, reason, deployment in rows
            }  # fmt: skip

    def begin(self, spec: DesiredService, runtime: str) -> Deployment:
        """Write down that ``spec`` is about to be run."""
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO deployments (service, image, spec, outcome) VALUES (?, ?, ?, ?)",
                (spec.name, str(spec.image), json.dumps(spec.to_json()), Outcome.TRYING),
            )
            number = int(cursor.lastrowid or 0)
            _set_service(db, spec.name, ServiceState.TRANSITIONING, runtime, None, number)
        return Deployment(number, spec, Outcome.TRYING)

    def finish(
        self, deployment: Deployment, runtime: str, outcome: Outcome, state: ServiceState, reason: str | None
    ) -> None:
        """Write down how ``deployment`` ended and that it is what the service now is."""
        with self._transaction() as db:
            _set_outcome(db, deployment, outcome)
            _set_service(db, deployment.spec.name, state, runtime, reason, deployment.id)

    def judge(self, deployment: Deployment, outcome: Outcome) -> Deployment:
        """Change only how ``deployment`` ended."""
        with self._transaction() as db:
            _set_outcome(db, deployment, outcome)
        return replace(deployment, outcome=outcome)

    def serial(self) -> tuple[int, str] | None:
        """Serial and digest of the last desired state that was taken, if it had a serial."""
        with self._transaction() as db:
            row = db.execute("SELECT value FROM facts WHERE name = 'serial'").fetchone()
        if row is None:
            return None
        number, digest = json.loads(row[0])
        return int(number), str(digest)

    def set_serial(self, serial: int, digest: Digest) -> None:
        """Remember the serial of a desired state."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO facts (name, value) VALUES ('serial', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (json.dumps([serial, str(digest)]),),
            )


def _set_service(
    db: sqlite3.Connection, name: str, state: ServiceState, runtime: str, reason: str | None, deployment: int
) -> None:
    db.execute(
        "INSERT INTO services (name, state, runtime, reason, deployment) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET state = excluded.state, runtime = excluded.runtime, "
        "reason = excluded.reason, deployment = excluded.deployment",
        (name, state, runtime, reason, deployment),
    )


def _set_outcome(db: sqlite3.Connection, deployment: Deployment, outcome: Outcome) -> None:
    db.execute("UPDATE deployments SET outcome = ? WHERE id = ?", (outcome, deployment.id))


def _deployment(db: sqlite3.Connection, number: int) -> Deployment:
    spec, outcome = db.execute("SELECT spec, outcome FROM deployments WHERE id = ?", (number,)).fetchone()
    return Deployment(number, _spec(spec), Outcome(outcome))


def _last_good(db: sqlite3.Connection, name: str, current: int) -> Deployment | None:
    """The newest deployment that was healthy, of another image than the current one and older than it."""
    row = db.execute(
        "SELECT id FROM deployments WHERE service = ? AND outcome = ? AND id < ? "
        "AND image != (SELECT image FROM deployments WHERE id = ?) ORDER BY id DESC LIMIT 1",
        (name, Outcome.HEALTHY, current, current),
    ).fetchone()
    return None if row is None else _deployment(db, row[0])


def _spec(text: str) -> DesiredService:
    violations: list[str] = []
    found = read_service(Fields(json.loads(text), "spec", violations))
    raise_all("the device's state", violations)
    return found
