"""Writes outputs as the JSON of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from edge_server.http.messages import Response
from edge_server.models.files.manifest import OutputSpec

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS

# Looked up once, since every answer needs it.
_dumps = orjson.dumps

Write = Callable[[list[Any]], Response]
# Makes the answer of names of outputs and of their values as JSON shows them.
Form = Callable[[Sequence[str], Sequence[Any]], Response]


def writer(outputs: Sequence[OutputSpec]) -> Write:
    """A function that writes the answer of these outputs: the value of a single one, else an object of values by name.

    Arrays become nested lists, NaN and infinity null, maps objects. Labels are the original's classes.
    """
    names = [output.name for output in outputs]
    tables = _tables(outputs)
    if len(names) == 1:
        table = tables[0]
        if table is None:
            return lambda values: Response(200, _dumps(values[0], _plain, _OPTIONS))
        return lambda values: Response(200, dump(_translated(values[0], table)))

    if not any(tables):
        return lambda values: Response(200, _dumps(dict(zip(names, values)), _plain, _OPTIONS))  # noqa: B905

    return lambda values: Response(200, dump(dict(zip(names, _shown(values, tables), strict=True))))


def writer_in_form(outputs: Sequence[OutputSpec], form: Form) -> Write:
    """As ``writer``, with another form of the answer around the values."""
    names = [output.name for output in outputs]
    tables = _tables(outputs)
    return lambda values: form(names, _shown(values, tables))


def _shown(values: Sequence[Any], tables: Sequence[dict[Any, Any] | None]) -> list[Any]:
    return [value if table is None else _translated(value, table) for value, table in zip(values, tables, strict=True)]


def _tables(outputs: Sequence[OutputSpec]) -> list[dict[Any, Any] | None]:
    return [_classes(output) for output in outputs]


def dump(answer: Any) -> bytes:
    """JSON of an answer; arrays become nested lists, NaN and infinity null."""
    return orjson.dumps(answer, default=_plain, option=_OPTIONS)


def _plain(value: Any) -> Any:
    # What orjson cannot write: arrays of strings, and arrays that are not contiguous.
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def _classes(output: OutputSpec) -> dict[Any, Any] | None:
    """The original's class for each label of the graph; None where the two are written alike.

    A graph cannot have booleans or mixed types as labels: it writes them as numbers or texts.
    """
    classes = output.classes
    if output.role != "label" or not classes or output.dtype is None:
        return None
    if output.dtype == "string":
        return None if all(isinstance(value, str) for value in classes) else {str(value): value for value in classes}
    if all(type(value) is int for value in classes) or output.dtype == "bool":
        return None
    if all(isinstance(value, (int, float)) for value in classes):
        return dict(zip(classes, classes, strict=True))
    return dict(enumerate(classes))


def _translated(value: Any, table: dict[Any, Any]) -> Any:
    # A label that is not a class, such as an outlier's -1, stays as it is.
    labels = [table.get(label, label) for label in value.ravel().tolist()]
    return labels if value.ndim == 1 else np.array(labels, dtype=object).reshape(value.shape)
