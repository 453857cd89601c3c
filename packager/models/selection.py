"""The rows that a query means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, select

from packager.database.tables import MODELS
from packager.models.query import Label, ModelQuery

# A key that means the same in the JSON path of both databases; ``ModelQuery.matches`` compares the others.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ -]*")


def rows_of(query: ModelQuery) -> Select[Any]:
    """The rows, by name and version; a few too many where a key cannot be asked for in SQL (``ModelQuery.matches``)."""
    wanted = select(MODELS)
    for column, value in ((MODELS.c.name, query.name), (MODELS.c.run, query.run)):
        if value is not None:
            wanted = wanted.where(column == value)
    if query.framework is not None:
        wanted = wanted.where(MODELS.c.framework == query.framework.value)
    for column, labels in ((MODELS.c.tags, query.tags), (MODELS.c.properties, query.properties)):
        wanted = wanted.where(*(_has(column, label) for label in labels if _PLAIN.fullmatch(label.key)))
    return wanted.order_by(MODELS.c.name, MODELS.c.version)


def _has(column: Column[Mapping[str, str]], label: Label) -> ColumnElement[bool]:
    value: ColumnElement[str] = column[label.key].as_string()
    return value.is_not(None) if label.value is None else value.is_not_distinct_from(label.value)
