"""Transactions on the workspace's database.

A command is a few short transactions, each on a connection of its own: a pooled one would outlive a fork.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edgepack.errors import EdgepackError
from packager.database.address import check_address
from packager.database.connection import Connection, DamagedRecordError
from packager.database.dialects import IN_MEMORY, Dialect, Postgres, Sqlite
from packager.database.failures import explained
from packager.database.upgrades import is_current, prepare

_NEXT_VERSION = """INSERT INTO last_versions (kind, name, version) VALUES (?, ?, 1)
    ON CONFLICT (kind, name) DO UPDATE SET version = last_versions.version + 1 RETURNING version"""


class Database:
    """A database; its tables are made or upgraded when it is opened.

    A file that is not there yet is made when something is first written: whoever only reads finds nothing and leaves
    nothing. Raises ``UsageError`` for an address that is none, ``IncompatibleError`` for a database that a newer
    edgepack or another program made, ``EdgepackError`` for one that cannot be reached or used.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._is_ready = False
        if dialect.exists:
            self._prepare()

    def _prepare(self) -> None:
        with self._connected(self._dialect) as connection:
            ready = is_current(connection)
        if not ready:
            with self._transaction(self._dialect.begin_writing) as connection:
                prepare(connection)
        self._is_ready = True

    @classmethod
    def beside(cls, path: Path) -> Database:
        """The SQLite database in the file ``path``, made with its folder where there is none."""
        return cls(Sqlite(str(path)))

    @classmethod
    def at(cls, address: str) -> Database:
        """The PostgreSQL database at ``postgresql://[USER@]HOST[:PORT]/DATABASE[?OPTION=VALUE]``, as libpq reads it."""
        check_address(address)
        return cls(Postgres(address))

    @property
    def where(self) -> str:
        """Its file, or its address without the password."""
        return self._dialect.where

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One view of the data; nothing is written in it."""
        if not self._is_ready and self._dialect.exists:  # somebody made it meanwhile
            self._prepare()
        if self._is_ready:
            with self._transaction(self._dialect.begin_reading) as connection:
                yield connection
        else:
            with self._connected(IN_MEMORY) as connection:
                prepare(connection)
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: all of it is kept when the block ends, none of it when it raises."""
        if not self._is_ready:
            self._dialect.make_room()
            self._prepare()
        with self._transaction(self._dialect.begin_writing) as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with self._connected(self._dialect) as connection:
            connection.run(begin)
            yield connection  # what raises here closes the connection, and both databases then undo what it did
            connection.run("COMMIT")

    @contextmanager
    def _connected(self, dialect: Dialect) -> Iterator[Connection]:
        failures = dialect.failures
        try:
            with closing(dialect.connect()) as driver:
                yield Connection(driver, dialect)
        except failures as error:
            raise explained(error, self.where) from error
        except DamagedRecordError as error:
            raise EdgepackError(
                "a record in the workspace's database is damaged", where=self.where,
                hint="put a copy of the database back",
            ) from error  # fmt: skip

    def next_version(self, kind: str, name: str) -> int:
        """The next version number of ``name`` among ``kind``, which nobody else gets; committed at once."""
        with self.writing() as connection:
            return int(connection.column(_NEXT_VERSION, kind, name)[0])
