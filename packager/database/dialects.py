"""The two databases: how each is reached, and the few words of SQL in which they differ.

The drivers are used as they are. A toolkit over them takes longer to import than a command may take to list 10,000
models (ADR 14), and each is loaded only where its database is.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import MissingPartError, disk_errors
from edgepack.host.files import make_dirs
from packager.database.tables import POSTGRES_SCHEMA

# A transaction is short; a lock that is held longer than this belongs to a process that hangs.
_BUSY_SECONDS = 60
_CONNECT_SECONDS = 15
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ -]*")


class Dialect(ABC):
    """One database; ``where`` is its file, or its address without a password."""

    # What stands for a value in a statement, the type of a column that numbers the rows, what begins transactions.
    placeholder: str
    row_number: str
    begin_reading: str
    begin_writing: str
    # Names of the tables that are there; our schema's, where there are several.
    table_names: str
    # Statements before tables are looked for that are to be made or upgraded, by one process at a time.
    preparing: tuple[str, ...] = ()

    @property
    @abstractmethod
    def where(self) -> str:
        """Its file, or its address without a password."""

    @property
    @abstractmethod
    def failures(self) -> tuple[type[Exception], ...]:
        """What its driver raises."""

    @property
    def exists(self) -> bool:
        """Whether there is anything to connect to; what a server has is found out by asking it."""
        return True

    @abstractmethod
    def make_room(self) -> None:
        """Make what a database that does not exist needs before it can be connected to."""

    @abstractmethod
    def connect(self) -> Any:
        """A new connection of the driver, in which no transaction begins by itself."""

    @abstractmethod
    def label(self, column: str, key: str) -> tuple[str, str] | None:
        """SQL for the text below ``key`` in a column of documents, and its one value; ``None`` where it has none."""


@dataclass(frozen=True)
class Sqlite(Dialect):
    """The file at ``path``."""

    path: str

    placeholder = "?"
    row_number = "INTEGER NOT NULL PRIMARY KEY"
    begin_reading = "BEGIN"
    begin_writing = "BEGIN IMMEDIATE"
    table_names = r"SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"

    @property
    def where(self) -> str:
        """The file."""
        return self.path

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What ``sqlite3`` raises."""
        import sqlite3

        return (sqlite3.Error,)

    @property
    def exists(self) -> bool:
        """Whether the file is there."""
        with disk_errors(self.path):
            return Path(self.path).exists()

    def make_room(self) -> None:
        """Make the file's folder."""
        make_dirs(Path(self.path).parent)

    def connect(self) -> Any:
        """A connection that waits for others."""
        import sqlite3

        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        # A commit must survive a power cut, with the removal of the journal that makes it one (pragma "synchronous").
        connection.execute("PRAGMA synchronous=EXTRA")
        return connection

    def label(self, column: str, key: str) -> tuple[str, str] | None:
        """A path of JSON, which finds a key as it is written, so that one with escapes is not asked for."""
        return (f"json_extract({column}, ?)", f'$."{key}"') if _PLAIN.fullmatch(key) else None


# A database that is empty, and gone with its connection.
IN_MEMORY = Sqlite(":memory:")


@dataclass(frozen=True)
class Postgres(Dialect):
    """The server at ``address``, as libpq reads it."""

    address: str

    placeholder = "%s"
    row_number = "SERIAL PRIMARY KEY"
    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    begin_writing = "BEGIN"
    table_names = f"SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = '{POSTGRES_SCHEMA}'"  # noqa: S608
    # "edgepack" as a number, which no other program will take; and a schema, which only some may make.
    preparing = (
        f"SELECT pg_advisory_xact_lock({int.from_bytes(b'edgepack', 'big') >> 1})",
        f"""DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '{POSTGRES_SCHEMA}') THEN
                CREATE SCHEMA {POSTGRES_SCHEMA};
            END IF;
        END $$""",
    )

    @property
    def where(self) -> str:
        """The address, which has no password (``packager.database.address``)."""
        return f"postgresql{self.address[self.address.index('://'):]}"  # fmt: skip

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What ``psycopg`` raises."""
        return (_psycopg().Error,)

    def make_room(self) -> None:
        """Nothing: a server has its place."""

    def connect(self) -> Any:
        """A connection to our schema, on which documents are read as text as from SQLite."""
        psycopg = _psycopg()
        from psycopg.types.string import TextLoader

        connection = psycopg.connect(
            self.where, connect_timeout=_CONNECT_SECONDS, client_encoding="utf8", autocommit=True
        )
        connection.adapters.register_loader("json", TextLoader)
        connection.execute(f"SET search_path TO {POSTGRES_SCHEMA}")
        return connection

    def label(self, column: str, key: str) -> tuple[str, str] | None:
        """The operator for text."""
        return f"{column} ->> CAST(? AS text)", key


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError:
        raise MissingPartError(
            "a team's database needs psycopg", where="PostgreSQL", hint="pip install 'edgepack[team]'"
        ) from None
    return psycopg
