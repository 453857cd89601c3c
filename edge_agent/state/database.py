"""The device's records in SQLite: which service runs which image, and how each deployment ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from edge_agent.state.commands import CommandFile
from edge_agent.state.file import damaged_state as damaged_state
from edge_agent.state.file import reading_only
from edge_agent.state.goals import Wanted
from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edge_agent.state.rows import read_deployments, read_records, read_wanted, write_goal, write_spec
from edge_agent.state.wanted import WantedFile
from edgepack.oci.digest import Digest
from edgepack.state.desired import NO_IMAGE, DesiredService
from edgepack.state.reported import ServiceState

# How much of a service's history is kept: its newest deployments, and the newest healthy one of this many images.
_KEPT = 20


class StateFile(WantedFile, CommandFile):
    """The database at ``path``: what is desired (``WantedFile``), commands, what was done; made when it does not exist.

    Every method raises ``UsageError`` where the file may not be used, ``NoSpaceError`` when the disk is full and
    ``EdgepackError`` when the file is damaged.
    """

    def services(self) -> dict[str, ServiceRecord]:
        """Every service by its name, all as of one moment."""
        with self._reading() as db:
            return read_records(db)

    def begin(
        self, spec: DesiredService, runtime: str, *, holder: str | None = None, returning: bool = False
    ) -> Deployment:
        """Record that ``spec`` is about to be run by ``runtime``.

        ``holder`` is the runtime that has the service's instance until ``moved``. ``returning`` marks a rollback to
        what was healthy before.
        """
        outcome = Outcome.RETURNING if returning else Outcome.TRYING
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO deployments (service, image, spec, runtime, outcome) VALUES (?, ?, ?, ?, ?)",
                (spec.name, str(spec.image), write_spec(spec), runtime, outcome),
            )
            number = int(cursor.lastrowid or 0)
            _set_service(db, spec.name, ServiceState.TRANSITIONING, holder or runtime, None, number)
            _prune(db, spec.name)
        return Deployment(number, spec, outcome, runtime)

    def moved(self, deployment: Deployment) -> None:
        """Record that only the deployment's own runtime can have an instance of the service from now on."""
        with self._transaction() as db:
            db.execute("UPDATE services SET runtime = ? WHERE name = ?", (deployment.runtime, deployment.spec.name))

    def stopping(self, record: ServiceRecord) -> None:
        """Record that the service is about to be stopped."""
        with self._transaction() as db:
            _set_service(db, record.name, ServiceState.TRANSITIONING, record.runtime, None, record.current.id)

    def finish(self, deployment: Deployment, outcome: Outcome, state: ServiceState, reason: str | None) -> None:
        """Record how ``deployment`` ended, and that it is the service's current one.

        Other healthy versions get the keys of one that became healthy: no return to them brings a replaced key back.
        Only when a rollback has become healthy do the newer images stop counting as good: until then they are what to
        return to when it fails.
        """
        with self._transaction() as db:
            if deployment.outcome is Outcome.RETURNING and outcome is Outcome.HEALTHY:
                _mark_newer_as_rolled_back(db, deployment)
            _set_outcome(db, deployment, outcome)
            if outcome is Outcome.HEALTHY:
                _renew_auth(db, deployment)
            _set_service(db, deployment.spec.name, state, deployment.runtime, reason, deployment.id)

    def forget_reason(self, service: str) -> None:
        """Forget what once went wrong with a service that runs what is asked for: it was asked for anew."""
        with self._transaction() as db:
            db.execute(
                "UPDATE services SET reason = NULL WHERE name = ? AND state = ?", (service, ServiceState.HEALTHY)
            )

    def judge(self, deployment: Deployment, outcome: Outcome) -> Deployment:
        """Record how ``deployment`` ended, and change nothing else."""
        with self._transaction() as db:
            _set_outcome(db, deployment, outcome)
        return replace(deployment, outcome=outcome)

    def past(self) -> dict[Digest, frozenset[str]]:
        """The images of all deployments that are remembered, each with the runtimes that it was run by."""
        with self._reading() as db:
            rows = db.execute("SELECT DISTINCT image, runtime FROM deployments").fetchall()
        found: dict[Digest, set[str]] = {}
        for image, runtime in rows:
            found.setdefault(Digest.parse(image), set()).add(runtime)
        return {image: frozenset(runtimes) for image, runtimes in found.items()}

    def give_up(self, images: Collection[Digest]) -> None:
        """Record that no service can return to ``images`` any more: what they need is about to be removed."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE deployments SET outcome = ? WHERE image = ? AND outcome = ? "
                "AND id NOT IN (SELECT deployment FROM services)",
                [(Outcome.ROLLED_BACK, str(image), Outcome.HEALTHY) for image in images],
            )

    def forget(self, images: Collection[Digest]) -> None:
        """Forget past deployments of ``images``, which were removed: one that is imported again has not run yet."""
        with self._transaction() as db:
            db.executemany(
                "DELETE FROM deployments WHERE image = ? AND id NOT IN (SELECT deployment FROM services)",
                [(str(image),) for image in images],
            )

    def forget_service(self, name: str) -> None:
        """Forget service ``name``, which was removed: nothing returns to its images, which are spent from here on."""
        with self._transaction() as db:
            db.execute(
                "UPDATE deployments SET outcome = ? WHERE service = ? AND outcome = ?",
                (Outcome.ROLLED_BACK, name, Outcome.HEALTHY),
            )
            db.execute("DELETE FROM services WHERE name = ?", (name,))
            goal = read_wanted(db).goals.get(name)
            if goal is not None:  # it stays, which keeps an older document from bringing the service back
                write_goal(db, replace(goal, spec=replace(goal.spec, image=NO_IMAGE)))


def read_services(path: Path) -> dict[str, ServiceRecord]:
    """As ``StateFile.services`` of the file at ``path``, which must exist; writes nothing, not even beside it.

    Raises ``EdgepackError`` when the file is damaged and ``UsageError`` when it may not be read.
    """
    return read_state(path)[0]


def read_state(path: Path) -> tuple[dict[str, ServiceRecord], Wanted]:
    """The services and all that is desired, as of one moment; as ``read_services``."""
    with reading_only(path) as db:
        return ({}, Wanted()) if db is None else (read_records(db), read_wanted(db))


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


def _renew_auth(db: sqlite3.Connection, newest: Deployment) -> None:
    for one in read_deployments(db, "service = ? AND outcome = ?", newest.spec.name, Outcome.HEALTHY):
        if one.spec.auth != newest.spec.auth and one.spec.same_auth_mode(newest.spec):
            spec = write_spec(replace(one.spec, auth=newest.spec.auth))
            db.execute("UPDATE deployments SET spec = ? WHERE id = ?", (spec, one.id))


def _mark_newer_as_rolled_back(db: sqlite3.Connection, back: Deployment) -> None:
    """Exclude the images that were healthy after the one that is now running again from later rollbacks."""
    db.execute(
        "UPDATE deployments SET outcome = :gone WHERE service = :service AND outcome = :healthy AND image IN "
        "(SELECT image FROM deployments WHERE service = :service AND outcome = :healthy AND image != :image AND id > "
        "(SELECT MAX(id) FROM deployments WHERE service = :service AND outcome = :healthy AND image = :image))",
        {
            "service": back.spec.name, "image": str(back.spec.image),
            "healthy": Outcome.HEALTHY, "gone": Outcome.ROLLED_BACK,
        },
    )  # fmt: skip


def _prune(db: sqlite3.Connection, service: str) -> None:
    db.execute(
        "DELETE FROM deployments WHERE service = :service "
        "AND id NOT IN (SELECT id FROM deployments WHERE service = :service ORDER BY id DESC LIMIT :kept) "
        "AND id NOT IN (SELECT MAX(id) AS newest FROM deployments WHERE service = :service AND outcome = :healthy "
        "GROUP BY image ORDER BY newest DESC LIMIT :kept)",
        {"service": service, "kept": _KEPT, "healthy": Outcome.HEALTHY},
    )
