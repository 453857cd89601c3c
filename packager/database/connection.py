"""Statements in a transaction, the same for both databases.

Values are always sent apart from a statement, where they stand as ``?``. A row is a dictionary; a column of documents
is written and read as JSON, for which the functions here take the ``Table``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packager.database.dialects import Dialect
from packager.database.tables import Table

Row = dict[str, Any]


class DamagedRecordError(ValueError):
    """A column of documents that is not JSON."""


class Connection:
    """A transaction on one connection of a driver, begun and ended by ``packager.database.database``."""

    def __init__(self, driver: Any, dialect: Dialect) -> None:
        self._driver = driver
        self.dialect = dialect

    def run(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Run one statement; returns its rows, none for one that has none."""
        return self._run(statement, values)[1]

    def _run(self, statement: str, values: Sequence[object]) -> tuple[list[str], list[tuple[Any, ...]]]:
        cursor = self._driver.cursor()
        cursor.execute(statement.replace("?", self.dialect.placeholder), *((values,) if values else ()))
        if cursor.description is None:
            return [], []
        return [column[0] for column in cursor.description], cursor.fetchall()

    def column(self, statement: str, *values: object) -> list[Any]:
        """The first column of the rows."""
        return [row[0] for row in self.run(statement, *values)]

    def select(self, table: Table, rest: str = "", *values: object) -> list[Row]:
        """The rows of ``table`` with ``rest``, such as ``WHERE name = ?``; raises ``DamagedRecordError``."""
        names, rows = self._run(f"SELECT * FROM {table.name} {rest}", values)  # noqa: S608 - a table of ours
        documents = [at for at, name in enumerate(names) if name in table.documents]
        return [dict(zip(names, _decoded(row, documents), strict=True)) for row in rows]

    def insert(self, table: Table, rows: Iterable[Mapping[str, Any]], *, is_missing: bool = False) -> None:
        """Insert ``rows``; of those that ``is_missing`` says may be there, only those whose keys are not."""
        rest = " ON CONFLICT DO NOTHING" if is_missing else ""
        for row in rows:
            marks = ", ".join("?" for _ in row)
            statement = f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({marks}){rest}"  # noqa: S608 - of ours
            self.run(statement, *_encoded(table, row))

    def update(self, table: Table, values: Mapping[str, Any], where: Mapping[str, Any]) -> None:
        """Set ``values`` in the rows that have those of ``where``."""
        sets = ", ".join(f"{name} = ?" for name in values)
        condition = " AND ".join(f"{name} = ?" for name in where)
        statement = f"UPDATE {table.name} SET {sets} WHERE {condition}"  # noqa: S608 - of ours
        self.run(statement, *_encoded(table, values), *where.values())

    def delete(self, table: Table, where: Mapping[str, Any]) -> None:
        """Delete the rows that have the values of ``where``."""
        condition = " AND ".join(f"{name} = ?" for name in where)
        self.run(f"DELETE FROM {table.name} WHERE {condition}", *where.values())  # noqa: S608 - of ours


def _encoded(table: Table, row: Mapping[str, Any]) -> list[Any]:
    documents = table.documents
    return [json.dumps(value) if name in documents and value is not None else value for name, value in row.items()]


def _decoded(row: Sequence[Any], documents: Iterable[int]) -> list[Any]:
    values = list(row)
    try:
        for at in documents:
            if values[at] is not None:
                values[at] = json.loads(values[at])
    except (ValueError, TypeError) as error:
        raise DamagedRecordError(str(error)) from error
    return values
