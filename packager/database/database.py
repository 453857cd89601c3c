"""Transactions on the workspace's database.

A command is a few short transactions, each on a connection of its own: a pooled one would outlive a fork.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.host.files import make_dirs
from packager.database.address import check_address
from packager.database.connection import Connection, DamagedRecordError
from packager.database.dialects import Dialect, Postgres, Sqlite
from packager.database.failures import explained
from packager.database.upgrades import is_current, prepare

_NEXT_VERSION = """INSERT INTO last_versions (kind, name, version) VALUES (?, ?, 1)
    ON CONFLICT (kind, name) DO UPDATE SET version = last_versions.version + 1 RETURNING version"""


class Database:
    """A database; its tables are made or upgraded when it is opened.

    Raises ``UsageError`` for an address that is none, ``IncompatibleError`` for a database that a newer edgepack or
    another program made, ``EdgepackError`` for one that cannot be reached or used.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        with self._connected() as connection:
            ready = is_current(connection)
        if not ready:
            with self.writing() as connection:
                prepare(connection)

    @classmethod
    def beside(cls, path: Path) -> Database:
        """The SQLite database in the file ``path``, made with its folder where there is none."""
        make_dirs(path.parent)
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
        with self._transaction(self._dialect.begin_reading) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: all of it is kept when the block ends, none of it when it raises."""
        with self._transaction(self._dialect.begin_writing) as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with self._connected() as connection:
            connection.run(begin)
            yield connection  # what raises here closes the connection, and both databases then undo what it did
            connection.run("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        failures = self._dialect.failures
        try:
            with closing(self._dialect.connect()) as driver:
                yield Connection(driver, self._dialect)
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
