"""The tables of the device's database, their versions, and the hash over their rows."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import replace

from edge_agent.state.goals import Stage
from edge_agent.state.records import Outcome
from edge_agent.state.rows import read_fact, read_spec, write_fact, write_spec
from edgepack.state.reported import Answer, ServiceState
from edgepack.state.topics import COMMAND

VERSION = 2
# The versions that ``migrate`` takes.
OLDER = (1,)
_FIRST = (
    "CREATE TABLE services (name TEXT PRIMARY KEY, state TEXT NOT NULL, runtime TEXT NOT NULL, reason TEXT, "
    "deployment INTEGER NOT NULL REFERENCES deployments (id))",
    "CREATE TABLE deployments (id INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, image TEXT NOT NULL, "
    "spec TEXT NOT NULL, runtime TEXT NOT NULL, outcome TEXT NOT NULL)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_SECOND = (
    "CREATE TABLE goals (service TEXT PRIMARY KEY, spec TEXT NOT NULL, origin TEXT NOT NULL, serial INTEGER, "
    "stage TEXT NOT NULL, attempts INTEGER NOT NULL, reason TEXT, status INTEGER NOT NULL, sequence INTEGER NOT NULL, "
    "number INTEGER NOT NULL)",
    "CREATE TABLE documents (scope TEXT PRIMARY KEY, serial INTEGER, digest TEXT NOT NULL, sequence INTEGER NOT NULL, "
    "data BLOB)",
    "CREATE TABLE refused (scope TEXT PRIMARY KEY, status INTEGER NOT NULL, reason TEXT NOT NULL, hint TEXT, "
    "serial INTEGER, digest TEXT)",
    "CREATE TABLE refused_services (service TEXT PRIMARY KEY, origin TEXT NOT NULL, serial INTEGER, "
    "status INTEGER NOT NULL, reason TEXT NOT NULL)",
    "CREATE TABLE quarantine (image TEXT PRIMARY KEY, reason TEXT NOT NULL)",
)
# Marks a database that has the hash of its records, which the first ones do not have ("edpk" in ASCII).
_HASHED = 0x6564706B
# What the hash covers. The data of a document is covered by its digest, which is a row's column.
_TABLES = {
    1: ("services", "deployments", "facts", "sqlite_sequence"),
    2: (
        "services", "deployments", "facts", "sqlite_sequence", "goals", "documents", "refused", "refused_services",
        "quarantine",
    ),
}  # fmt: skip
_COLUMNS = {"documents": "scope, serial, digest, sequence"}


def version(db: sqlite3.Connection) -> int:
    """The version of the tables; 0 for a database that nothing was written to."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether the database has no tables; raises ``ValueError`` when it has some, and no version."""
    if version(db) != 0:
        return False
    if db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        raise ValueError("the number of its version is missing")
    return True


def create(db: sqlite3.Connection) -> None:
    """Make the tables; the caller has begun a transaction."""
    for statement in (*_FIRST, *_SECOND):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    write_hash(db)


def migrate(db: sqlite3.Connection) -> None:
    """Make of a database of version 1 one of this version; the caller has begun a transaction.

    Its services become goals that an operator has set, so that what should run is kept running. An update that was
    interrupted is one that was being switched. Raises ``ValueError`` when the records are not those that were written.
    """
    check_hash(db)
    for statement in _SECOND:
        db.execute(statement)
    serial = None
    if (fact := read_fact(db, "serial")) is not None:
        serial, digest = json.loads(fact)
        db.execute("INSERT INTO documents VALUES (?, ?, ?, 0, NULL)", (COMMAND, serial, digest))
        db.execute("DELETE FROM facts WHERE name = 'serial'")
    rows = db.execute(
        "SELECT services.name, services.state, services.reason, deployments.spec, deployments.outcome FROM services "
        "JOIN deployments ON deployments.id = services.deployment ORDER BY services.name"
    ).fetchall()
    for name, state, reason, text, outcome in rows:
        spec, stage = read_spec(text), _stage(ServiceState(state), Outcome(outcome))
        if stage is None:
            spec, stage = replace(spec, status="stopped"), _STOPPED[ServiceState(state)]
        db.execute(
            "INSERT INTO goals VALUES (?, ?, ?, ?, ?, 0, ?, ?, 0, 0)",
            (name, write_spec(spec), COMMAND, serial, stage, reason, _status(stage)),
        )
    db.execute(f"PRAGMA user_version = {VERSION}")
    write_hash(db)


# How far a service is that was stopped, or was being stopped.
_STOPPED = {ServiceState.STOPPED: Stage.DONE, ServiceState.TRANSITIONING: Stage.WANTED}


def _stage(state: ServiceState, outcome: Outcome) -> Stage | None:
    """How far a service of version 1 is; ``None`` for one that was stopped, or was being stopped."""
    if state is ServiceState.STOPPED:
        return None
    if state is ServiceState.TRANSITIONING:
        return {Outcome.TRYING: Stage.SWITCHING, Outcome.RETURNING: Stage.RETURNING}.get(outcome)
    return Stage.FAILED if state is ServiceState.FAILED else Stage.DONE


def _status(stage: Stage) -> Answer:
    return Answer.FAILED if stage is Stage.FAILED else Answer.OK


def _hash(db: sqlite3.Connection) -> str:
    """The hash of all records, whatever their bytes are."""
    number = version(db)
    found = hashlib.sha256()
    text, db.text_factory = db.text_factory, bytearray  # what is no text stays ``bytes``
    try:
        for table in _TABLES[number]:
            columns = _COLUMNS.get(table, "*")
            for row in db.execute(f"SELECT {columns} FROM {table} ORDER BY 1"):  # noqa: S608 - ours
                if (table, row[0]) != ("facts", b"hash"):
                    found.update(repr((table, row)).encode())
    finally:
        db.text_factory = text
    return found.hexdigest()


def check_hash(db: sqlite3.Connection) -> None:
    """Raise ``ValueError`` when the records are not those that were written."""
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    if mark == 0 and version(db) == 1:  # of a version before there was a hash
        return
    if mark != _HASHED or read_fact(db, "hash") != _hash(db):
        raise ValueError("its records are not those that were written")


def write_hash(db: sqlite3.Connection) -> None:
    """Record the hash of all records; the last thing that a transaction does."""
    db.execute(f"PRAGMA application_id = {_HASHED}")
    write_fact(db, "hash", _hash(db))
