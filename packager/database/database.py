"""Transactions on the workspace's database.

A command is a few short transactions, each on a connection of its own: a pooled one would outlive a fork.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from edgepack.errors import EdgepackError, MissingPartError
from edgepack.host.files import make_dirs
from packager.database.address import check_address
from packager.database.failures import explained
from packager.database.tables import LAST_VERSIONS, POSTGRES_SCHEMA
from packager.database.upgrades import prepare

# A transaction is short; a lock that is held longer than this belongs to a process that hangs.
_BUSY_SECONDS = 60
_CONNECT_SECONDS = 15


class Database:
    """The database at an address; its tables are made or upgraded when it is opened.

    Raises ``UsageError`` for an address that is none, ``IncompatibleError`` for a database that a newer edgepack or
    another program made, ``EdgepackError`` for one that cannot be reached or used.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._is_sqlite = url.get_backend_name() == "sqlite"
        self._engine = _sqlite_engine(url) if self._is_sqlite else _postgres_engine(url)
        with self._explaining():
            prepare(self._engine, self.where)

    @classmethod
    def beside(cls, path: Path) -> Database:
        """The SQLite database in the file ``path``, made with its folder where there is none."""
        make_dirs(path.parent)
        return cls(URL.create("sqlite", database=str(path)))

    @classmethod
    def at(cls, address: str) -> Database:
        """The PostgreSQL database at ``postgresql://[USER@]HOST[:PORT]/DATABASE[?OPTION=VALUE]``, as libpq reads it."""
        check_address(address)
        return cls(make_url(address).set(drivername="postgresql+psycopg"))

    @property
    def where(self) -> str:
        """Its file, or its address without the password."""
        if self._is_sqlite:
            return str(self._url.database)
        return self._url.set(drivername="postgresql").render_as_string(hide_password=True)

    def _insert(self, table: Table) -> Any:
        return (sqlite if self._is_sqlite else postgresql).insert(table)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One view of the data; nothing is written in it."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: all of it is kept when the block ends, none of it when it raises."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        connecting = self._engine.connect
        with self._explaining(), connecting().execution_options(sqlite_begin=begin) as connection, connection.begin():
            yield connection

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise explained(error, self.where) from error
        except JSONDecodeError as error:  # of a column of JSON
            raise EdgepackError(
                "a record in the workspace's database is damaged", where=self.where,
                hint="put a copy of the database back",
            ) from error  # fmt: skip

    def add_missing(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert those of ``rows`` whose keys are not there yet."""
        if rows:
            connection.execute(self._insert(table).on_conflict_do_nothing(), rows)

    def next_version(self, kind: str, name: str) -> int:
        """The next version number of ``name`` among ``kind``, which nobody else gets; committed at once."""
        first = self._insert(LAST_VERSIONS).values(kind=kind, name=name, version=1)
        counted = first.on_conflict_do_update(
            index_elements=[LAST_VERSIONS.c.kind, LAST_VERSIONS.c.name],
            set_={"version": LAST_VERSIONS.c.version + 1},
        ).returning(LAST_VERSIONS.c.version)
        with self.writing() as connection:
            return int(connection.execute(counted).scalar_one())


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def durable(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the module begins no transactions by itself; see ``begin``
        # A commit must survive a power cut, with the removal of the journal that makes it one (pragma "synchronous").
        connection.execute("PRAGMA synchronous=EXTRA")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE"))

    return engine


def _postgres_engine(url: URL) -> Engine:
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_SECONDS})
    except ImportError:
        raise MissingPartError(
            "a team's database needs psycopg", where="PostgreSQL", hint="pip install 'edgepack[team]'"
        ) from None

    @event.listens_for(engine, "connect")
    def own_schema(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET search_path TO {POSTGRES_SCHEMA}")
        connection.commit()

    return engine
