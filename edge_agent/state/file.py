"""The file of the device's database: opened, created, brought to the present version, read and written whole.

The next state is written, durably, before the effect that it announces (``synchronous=FULL`` in WAL mode): a power cut
leaves either the old state or the intention, and the same command finishes from there. With every change the hash of
all records is written, and with every use compared: SQLite itself does not see it when a byte of a record is altered.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_agent.state import schema
from edge_agent.state.reserve import files_left
from edge_agent.state.snapshot import snapshot
from edgepack.errors import (
    EdgepackError,
    InvalidDocumentError,
    InvalidReferenceError,
    NoSpaceError,
    UsageError,
    disk_errors,
)
from edgepack.host.files import set_mode

# SQLite's shared memory and one page of each file.
_FULL_BYTES = 64 << 10


class DatabaseFile:
    """The database at ``path``, which is created when it does not exist, and migrated when it is of an older version.

    Every method raises ``UsageError`` where the file may not be used, ``NoSpaceError`` when the disk is full and
    ``EdgepackError`` when the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._make_private()
        with self._opened() as db:
            if schema.version(db) == 0:
                self._create(db)
            if schema.version(db) in schema.OLDER:
                self._migrate(db)
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
        if schema.is_empty(db):  # only now nobody else can be about to make it
            schema.create(db)
        db.execute("COMMIT")

    @staticmethod
    def _migrate(db: sqlite3.Connection) -> None:
        """In one transaction: a power cut or a full disk leaves the older version, whole."""
        db.execute("BEGIN IMMEDIATE")
        if schema.version(db) in schema.OLDER:  # no other process has done it meanwhile
            schema.migrate(db)
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
            schema.check_hash(db)
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            schema.check_hash(db)
            yield db
            schema.write_hash(db)
            db.execute("COMMIT")


@contextmanager
def reading_only(path: Path) -> Iterator[sqlite3.Connection | None]:
    """The database at ``path``, which must exist, in memory; ``None`` for one that was made and never written to.

    Nothing is written, not even beside it: one of an older version is migrated in memory only. Raises ``EdgepackError``
    when the file is damaged and ``UsageError`` when it may not be read.
    """
    with disk_errors(path), _damage_named(path):
        try:
            db = snapshot(path)
            try:
                if schema.is_empty(db):
                    yield None
                    return
                if schema.version(db) in schema.OLDER:
                    schema.migrate(db)
                _check_version(db, path)
                schema.check_hash(db)
                yield db
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


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    if schema.version(db) != schema.VERSION:
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
