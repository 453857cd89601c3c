"""The rows that a query means."""

from __future__ import annotations

from packager.database.dialects import Dialect
from packager.models.query import ModelQuery


def rows_of(query: ModelQuery, dialect: Dialect) -> tuple[str, list[str]]:
    """What follows ``SELECT * FROM models``, and its values: the rows by name and version.

    They are a few too many where a key cannot be asked for in SQL (``ModelQuery.matches``).
    """
    conditions, values = [], []
    framework = None if query.framework is None else query.framework.value
    for column, value in (("name", query.name), ("run", query.run), ("framework", framework)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    for column, labels in (("tags", query.tags), ("properties", query.properties)):
        for label in labels:
            if (asked := dialect.label(column, label.key)) is not None:
                expression, key = asked
                conditions.append(f"{expression} IS NOT NULL" if label.value is None else f"{expression} = ?")
                values += [key] if label.value is None else [key, label.value]
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    return f"{where}ORDER BY name, version", values
