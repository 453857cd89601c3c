"""How far a graph may be trusted: finite numbers that the original refuses, and numbers so large that answers part.

A part inside a model may refuse what a step before it made of a plain number; and distances, products and exponentials
of numbers far beyond the training data come out by the order in which they are added. The rows that are tried here are
common rows with one cell, or some, moved to such a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.error_text import first_line
from converters.graph.session import Session
from converters.proof.samples import Table
from converters.sklearn import rows
from converters.sklearn.original import Expected
from converters.sklearn.proof import Answer, Comparer, prove
from edgepack.errors import ConversionError

# Rows that an original refuses, each with what it says, by what decides which rows are tried and how they are asked.
# Kept from a graph to the next one of the same model: the original is slow, and its answers are the same.
Found = dict[tuple[object, ...], list[tuple[Table, str]]]

# By how much a number is larger than the largest common one of its column.
FACTORS = (1e3, 1e6, 1e9, 1e12, 1e15, 1e20, 1e25, 1e30, 1e36)
# The largest that is tried: float32 holds it, and what is larger is a kind of unusual input of its own.
LARGEST = 3e38
LARGE_ROWS = 24
# A common row is tried with these in one column after the other, and with numbers far on both sides.
PLAIN = (0.0, -1.0, 1.0)
# Of wide tables only some columns are tried, and of slow models only so many rows that they refuse are looked for.
MOST_COLUMNS = 48
MOST_QUESTIONS = 160


@dataclass(frozen=True)
class Refused:
    """Rows that the original refuses: how many were found, and those of them that the graph answers."""

    rows: int
    answered: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report's field."""
        return {"rows": self.rows, "answered": list(self.answered)}


def refused(
    session: Session, expected: Expected, outputs: Sequence[Answer], more: Sequence[Table], found: Found
) -> Refused:
    """The rows that the original refuses among those moved to plain and large finite values, and among ``more``.

    ``found`` has those of the graphs before, of the same table and the same ``more``.
    """
    key = (expected.inputs.unused, *((answer.method, answer.meaning.part) for answer in outputs))
    if key not in found:
        tables = [table for table in (_moved(expected), *more) if table is not None and len(table)]
        found[key] = [row for table in tables for row in _refused_rows(expected, outputs, table)]
    answered = []
    for row, told in found[key]:
        try:
            session.run(expected.inputs.feeds(row))
        except ConversionError:
            continue
        answered.append(told)
    return Refused(len(found[key]), tuple(dict.fromkeys(answered)))


def _moved(expected: Expected) -> Table | None:
    """Common rows, each with one cell moved."""
    import numpy as np

    table, cells = expected.table, []
    for index, size in list(_sizes(expected).items())[:MOST_COLUMNS]:
        steps = [sign * min(size * factor, LARGEST) for factor in (2.0, *FACTORS[1::2]) for sign in (-1.0, 1.0)]
        cells += [(index, value) for value in dict.fromkeys((*PLAIN, *steps))]
    if not cells:
        return None
    usable = _complete(table)
    if not usable.size:
        return None
    moved = table.take(np.resize(usable[:8], len(cells)))
    columns = [column.copy() for column in moved.columns]
    for row, (index, value) in enumerate(cells):
        columns[index][row] = value
    return Table(table.names, tuple(columns))


def _refused_rows(expected: Expected, outputs: Sequence[Answer], table: Table) -> list[tuple[Table, str]]:
    """The rows of a table that the original refuses, each with what it says, found by halving."""
    found: list[tuple[Table, str]] = []
    waiting, questions = [table], 0
    while waiting and questions < MOST_QUESTIONS:
        part = waiting.pop(0)
        questions += 1
        asked = Expected(expected.original, expected.inputs, part)
        try:
            for answer in outputs:
                asked.answer(answer.method, answer.meaning.part)
        except ConversionError as error:
            if len(part) == 1:
                found.append((part, first_line(error.__cause__ or error)[:120]))
            else:
                half = len(part) // 2
                waiting += [part.take(slice(0, half)), part.take(slice(half, len(part)))]
    return found


def trusted(
    session: Session, expected: Expected, comparer: Comparer, outputs: Sequence[Answer]
) -> Mapping[int, float] | None:
    """By column the largest size of numbers up to which the graph answers as the original; None where there is none."""
    import numpy as np

    sizes = _sizes(expected)
    usable = _complete(expected.table)
    if not sizes or not usable.size:
        return None
    before = {index: size * FACTORS[0] for index, size in sizes.items()}
    random = np.random.default_rng(rows.SEED)
    for factor in FACTORS:
        values = {index: min(size * factor, LARGEST) for index, size in sizes.items()}
        table = expected.table.take(np.resize(usable, LARGE_ROWS))
        columns = [column.copy() for column in table.columns]
        chosen = random.random((len(table), len(values))) < 0.5
        chosen[np.arange(len(table)), random.integers(0, len(values), len(table))] = True
        for position, (index, value) in enumerate(values.items()):
            spread = value * random.uniform(0.1, 1.0, len(table)) * random.choice([-1.0, 1.0], len(table))
            columns[index] = np.where(chosen[:, position], spread, columns[index])
        moved = Table(table.names, tuple(columns))
        for rows_tried in (moved, _with_holes(moved, list(values), chosen, random)):
            large = Expected(expected.original, expected.inputs, rows_tried)
            if not _equal(session, large, comparer, outputs):
                return before
        before = {index: value * 0.1 for index, value in values.items()}
    return None


def _with_holes(table: Table, columns: Sequence[int], moved: Any, random: Any) -> Table:
    """The rows, each without one of the numbers that were not ``moved``: what fills it in may go by the large ones."""
    import numpy as np

    holes = np.where(moved, -1.0, random.random(moved.shape))
    missing = holes == np.maximum(holes.max(axis=1, keepdims=True), 0)
    for place, index in enumerate(columns):
        table = table.replaced(index, np.where(missing[:, place], np.nan, table.columns[index]))
    return table


def _equal(session: Session, large: Expected, comparer: Comparer, outputs: Sequence[Answer]) -> bool:
    """Whether the graph answers these rows as the original does; rows that either refuses show nothing."""
    try:
        for answer in outputs:
            large.answer(answer.method, answer.meaning.part)
        session.run(large.inputs.feeds(large.table))
    except ConversionError:
        return True
    try:
        return all(proof.passed for proof in prove(session, large, comparer, outputs))
    except ConversionError:
        return False


def by_input(expected: Expected, limits: Mapping[int, float]) -> dict[str, list[float]]:
    """The limits by the graph's inputs, a number for each of its columns; infinity where there is none."""
    inputs = expected.inputs
    if inputs.layout == "matrix":
        return {inputs.graph_names[0]: [limits.get(index, float("inf")) for index in range(len(inputs.names))]}
    return {inputs.graph_names[index]: [limit] for index, limit in limits.items()}


def _sizes(expected: Expected) -> dict[int, float]:
    """By column of numbers that the graph reads, the largest common size in it."""
    return dict(_size_of_columns(expected))


def _size_of_columns(expected: Expected) -> Iterator[tuple[int, float]]:
    import numpy as np

    inputs = expected.inputs
    if inputs.layout == "texts":  # one input of text, whatever its columns hold
        return
    for index, column in enumerate(expected.table.columns):
        read = inputs.layout == "matrix" or (not inputs.unused[index] and inputs.dtypes[index].startswith("float"))
        if column.dtype.kind != "f" or not read:
            continue
        finite = np.abs(column[np.isfinite(column)])
        yield index, max(float(finite.max()), 1.0) if finite.size else 1.0


def _complete(table: Table) -> Any:
    """The numbers of the rows in which nothing is missing."""
    import numpy as np

    usable = np.ones(len(table), dtype=bool)
    for column in table.columns:
        if column.dtype.kind == "f":
            usable &= np.isfinite(column)
        elif column.dtype.kind == "O":
            usable &= np.array([cell is not None for cell in column], dtype=bool)
    return np.flatnonzero(usable)
