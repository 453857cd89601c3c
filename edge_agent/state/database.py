"""The device's records in SQLite: which service runs which image, and how each deployment ended.

The next state is written, durably, before the effect that it announces (``synchronous=FULL`` in WAL mode): a power cut
leaves either the old state or the intention, and the same command finishes from there. With every change the hash of
all records is written, and with every use compared: SQLite itself does not see it when a byte of a record is altered.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edge_agent.state.reserve import files_left
from edge_agent.state.snapshot import snapshot
from edgepack.documents import Fields, raise_all
from edgepack.errors import (
    EdgepackError,
    InvalidDocumentError,
    InvalidReferenceError,
    NoSpaceError,
    UsageError,
    disk_errors,
)
from edgepack.host.files import set_mode
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService, read_service
from edgepack.state.reported import ServiceState

_VERSION = 1
_SCHEMA = (
    "CREATE TABLE services (name TEXT PRIMARY KEY, state TEXT NOT NULL, runtime TEXT NOT NULL, reason TEXT, "
    "deployment INTEGER NOT NULL REFERENCES deployments (id))",
    "CREATE TABLE deployments (id INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, image TEXT NOT NULL, "
    "spec TEXT NOT NULL, runtime TEXT NOT NULL, outcome TEXT NOT NULL)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    f"PRAGMA user_version = {_VERSION}",
)
# Marks a database that has the hash of its records, which those of earlier versions do not ("edpk" in ASCII).
_HASHED = 0x6564706B
_TABLES = ("services", "deployments", "facts", "sqlite_sequence")
# How much of a service's history is kept: its newest deployments, and the newest healthy one of this many images.
_KEPT = 20
# SQLite's shared memory and one page of each file.
_FULL_BYTES = 64 << 10


class StateFile:
    """The database at ``path``, which is created when it does not exist.

    Every method raises ``UsageError`` where the file may not be used, ``NoSpaceError`` when the disk is full and
    ``EdgepackError`` when the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._make_private()
        with self._opened() as db:
            if _version(db) == 0:
                self._create(db)
            _check_version(db, path)

    def _make_private(self) -> None:
        """Let only its owner read it, for a service's environment may hold secrets; SQLite's other files follow it."""
        with disk_errors(self._path), suppress(FileNotFoundError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for path in (self._path, *(self._path.with_name(f"{self._path.name}-{kind}") for kind in ("wal", "shm"))):
            with suppress(FileNotFoundError):
                set_mode(path, 0o600)

    @staticmethod
    def _create(db: sqlite3.Connection) -> None:
        # Another process that creates it at the same time holds the lock: then there is nothing left to do.
        with suppress(sqlite3.OperationalError):
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        if _version(db) == 0:
            for statement in _SCHEMA:
                db.execute(statement)
        db.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with disk_errors(self._path), _damage_named(self._path):
            try:
                db = sqlite3.connect(self._path, timeout=30, isolation_level=None)
                try:
                    db.execute("PRAGMA synchronous = FULL")
                    yield db
                finally:
                    db.close()  # what was not committed is undone
            except sqlite3.DatabaseError as error:
                raise _explained(error, self._path) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._opened() as db:
            db.execute("BEGIN")
            _check_hash(db)
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            _check_hash(db)
            yield db
            _write_hash(db)
            db.execute("COMMIT")

    def services(self) -> dict[str, ServiceRecord]:
        """Every service by its name, all as of one moment."""
        with self._reading() as db:
            return _services(db)

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
                (spec.name, str(spec.image), json.dumps(spec.to_json()), runtime, outcome),
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

        Only when a rollback has become healthy do the newer images stop counting as good: until then they are what to
        return to when it fails.
        """
        with self._transaction() as db:
            if deployment.outcome is Outcome.RETURNING and outcome is Outcome.HEALTHY:
                _mark_newer_as_rolled_back(db, deployment)
            _set_outcome(db, deployment, outcome)
            _set_service(db, deployment.spec.name, state, deployment.runtime, reason, deployment.id)

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

    def serial(self) -> tuple[int, Digest] | None:
        """Serial and digest of the last desired state that was accepted, if it had a serial."""
        with self._reading() as db:
            row = db.execute("SELECT value FROM facts WHERE name = 'serial'").fetchone()
        if row is None:
            return None
        number, digest = json.loads(row[0])
        return int(number), Digest.parse(digest)

    def clear_serial(self) -> None:
        """Forget the serial that was accepted: documents without one, or with a lower one, are taken again."""
        with self._transaction() as db:
            db.execute("DELETE FROM facts WHERE name = 'serial'")

    def set_serial(self, serial: int, digest: Digest) -> None:
        """Record the serial of a desired state."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO facts (name, value) VALUES ('serial', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (json.dumps([serial, str(digest)]),),
            )


def read_services(path: Path) -> dict[str, ServiceRecord]:
    """As ``StateFile.services`` of the file at ``path``, which must exist; writes nothing, not even beside it.

    Raises ``EdgepackError`` when the file is damaged and ``UsageError`` when it may not be read.
    """
    with disk_errors(path), _damage_named(path):
        try:
            db = snapshot(path)
            try:
                if _version(db) == 0:  # made, and never written to
                    return {}
                _check_version(db, path)
                _check_hash(db)
                return _services(db)
            finally:
                db.close()
        except sqlite3.DatabaseError as error:  # it is in memory: nothing else can be wrong
            raise damaged_state(path, str(error)) from error


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Let records that cannot be understood be damage to the file at ``path``."""
    try:
        yield
    except (ValueError, LookupError, InvalidDocumentError, InvalidReferenceError) as error:
        raise damaged_state(path, " ".join(str(error).split())) from error


def _hash(db: sqlite3.Connection) -> str:
    """The hash of all records, whatever their bytes are."""
    found = hashlib.sha256()
    text, db.text_factory = db.text_factory, bytearray  # what is no text stays ``bytes``
    try:
        for table in _TABLES:
            for row in db.execute(f"SELECT * FROM {table} ORDER BY 1"):  # noqa: S608 - ours
                if (table, row[0]) != ("facts", b"hash"):
                    found.update(repr((table, row)).encode())
    finally:
        db.text_factory = text
    return found.hexdigest()


def _check_hash(db: sqlite3.Connection) -> None:
    """Raise ``ValueError`` when the records are not those that were written."""
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    if mark == 0:  # of an earlier version
        return
    row = db.execute("SELECT value FROM facts WHERE name = 'hash'").fetchone()
    if mark != _HASHED or row is None or row[0] != _hash(db):
        raise ValueError("its records are not those that were written")


def _write_hash(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA application_id = {_HASHED}")
    db.execute(
        "INSERT INTO facts (name, value) VALUES ('hash', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (_hash(db),),
    )


def _services(db: sqlite3.Connection) -> dict[str, ServiceRecord]:
    rows = db.execute("SELECT name, state, runtime, reason, deployment FROM services ORDER BY name").fetchall()
    return {
        name: ServiceRecord(
            name, ServiceState(state), runtime, reason, _deployments(db, "id = ?", current)[0],
            _deployments(db, "service = ? AND outcome = ? AND id <= ?", name, Outcome.HEALTHY, current),
        )
        for name, state, runtime, reason, current in rows
    }  # fmt: skip


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    if _version(db) != _VERSION:
        raise EdgepackError(
            "the device's state was written by another version of edge-agent", where=path,
            hint=f"use that version, or {_start_again(path)}",
        )  # fmt: skip


def damaged_state(path: Path, what: str) -> EdgepackError:
    """The error for a state file that cannot be used any more, with the way out."""
    return EdgepackError(f"the device's state is damaged ({what})", where=path, hint=_start_again(path))


def _start_again(path: Path) -> str:
    # What runs is found by the runtimes, so it is kept when it is what is desired, and else stopped.
    folder = shlex.quote(str(path.parent))
    return f"run: mv {folder} {shlex.quote(f'{path.parent}.damaged')}, and apply the desired state again"


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


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


def _deployments(db: sqlite3.Connection, where: str, *values: object) -> tuple[Deployment, ...]:
    rows = db.execute(
        f"SELECT id, spec, outcome, runtime FROM deployments WHERE {where} ORDER BY id DESC",  # noqa: S608 - ours
        values,
    )
    return tuple(Deployment(number, _spec(spec), Outcome(outcome), by) for number, spec, outcome, by in rows)


def _spec(text: str) -> DesiredService:
    violations: list[str] = []
    found = read_service(Fields(json.loads(text), "spec", violations))
    raise_all("the device's state", violations)
    return found


def _explained(error: sqlite3.DatabaseError, path: Path) -> EdgepackError:
    name = getattr(error, "sqlite_errorname", "")
    # A full disk shows itself in many ways: SQLite also needs space for files beside the database.
    if name.startswith("SQLITE_FULL") or (name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and _is_full(path)):
        what = "no space left on the disk" if files_left(path.parent) else "no more files can be made on the disk"
        return NoSpaceError(what, where=path, hint="free at least 1 MB and some files, and run it again")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return UsageError(f"cannot be opened ({error})", where=path, hint="run as the owner of the folder")
    # An error that is not SQLite's own has no name: text that is not UTF-8.
    if not name or name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR")):
        return damaged_state(path, str(error))
    return EdgepackError(f"the device's state cannot be used ({error})", where=path, hint="run it again")


def _is_full(path: Path) -> bool:
    with suppress(OSError):
        disk = os.statvfs(path.parent)
        return disk.f_bavail * disk.f_frsize < _FULL_BYTES or not files_left(path.parent)
    return False
