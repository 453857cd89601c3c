"""Tables of sample rows as text: lines and separators of CSV, rows of JSON, and text in a column of numbers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import UsageError

# A line's number in the file, and its cells.
Line = tuple[int, list[str]]
_OTHERS = {";": "semicolons", "\t": "tabs", "|": "'|'"}
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


@dataclass(frozen=True)
class TextCell:
    """A cell that is text, in a column whose other cells are numbers; ``place`` is its line or row."""

    place: str
    column: str
    value: str

    def error(self, file: str) -> UsageError:
        """What to tell the user."""
        if not isinstance(cell_of(self.value), str):
            hint = "write it without quotes"
        elif _DECIMAL_COMMA.fullmatch(self.value):
            hint = f"write numbers with a decimal point, such as {self.value.strip().replace(',', '.')}"
        else:
            hint = "correct it, or leave the cell empty where the value is missing"
        what = f"{self.value[:60]!r} in column {self.column!r} is not a number"
        return UsageError(what, where=f"{file} {self.place}", hint=hint)


def lines_of(path: Path) -> list[Line]:
    """The lines of a CSV file that are not empty. Raises ``UsageError`` where no commas separate cells."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    _require_commas(path, lines)
    return lines


def header_and_rows(lines: Sequence[Line]) -> tuple[list[str] | None, Sequence[Line]]:
    """The names in the first line, where it holds any text that is not a number, and the lines of rows."""
    first = lines[0][1]
    if all(not isinstance(cell_of(cell), str) for cell in first):
        return None, lines
    return first, lines[1:]


def cell_of(text: str) -> int | float | str | None:
    """What a cell says; None for an empty one."""
    if text.strip() == "":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def text_cells(path: Path) -> list[TextCell]:
    """The first text in each column that is mostly numbers, of a readable ``.csv`` or ``.json`` file; else none.

    A number with a decimal comma is text.
    """
    if path.suffix.lower() == ".csv":
        lines = lines_of(path)
        names, rows = header_and_rows(lines) if lines else (None, [])
        return _texts(names, [(f"line {line}", list(map(cell_of, cells))) for line, cells in rows])
    if path.suffix.lower() == ".json":
        given, values = records_of(json.loads(path.read_bytes()))
        return _texts(given, [(f"row {number}", list(row)) for number, row in enumerate(values, 1)])
    return []


def records_of(document: Any) -> tuple[Sequence[str] | None, Sequence[Sequence[Any]]]:
    """The names, where they are given, and the rows of ``{"data": rows}`` or ``rows``: lists, or records by name."""
    names = document.get("columns") if isinstance(document, dict) else None
    rows = document["data"] if isinstance(document, dict) else document
    if not isinstance(rows, list) or not rows:
        return (), []
    if isinstance(rows[0], dict):
        names = list(rows[0])
        rows = [[row.get(name) for name in names] for row in rows]
    return names, rows


def require_equal_rows(rows: Sequence[Sequence[Any]], names: Sequence[str] | None) -> None:
    """Raise ``ValueError`` for a row that is longer or shorter than ``names``, or than the first one without them."""
    width = len(names) if names else None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list | tuple):
            raise ValueError(f"row {number} is not a list of cells")
        width = len(row) if width is None else width
        if len(row) != width:
            raise ValueError(f"row {number} has {len(row)} columns, expected {width}")


def _texts(names: Sequence[str] | None, rows: Sequence[tuple[str, list[Any]]]) -> list[TextCell]:
    found = []
    width = max((len(row) for _, row in rows), default=0)
    for index, name in enumerate(names or [f"x{index}" for index in range(width)]):
        cells = [(place, row[index]) for place, row in rows if index < len(row) and row[index] is not None]
        texts = [(place, cell) for place, cell in cells if isinstance(cell, str)]
        others = sum(1 for _, cell in texts if not _is_number(cell))
        if texts and 2 * others < len(cells):
            found.append(TextCell(texts[0][0], str(name), texts[0][1]))
    return found


def _is_number(cell: str) -> bool:
    return not isinstance(cell_of(cell), str) or _DECIMAL_COMMA.fullmatch(cell) is not None


def _require_commas(path: Path, lines: Sequence[Line]) -> None:
    """Raise ``UsageError`` for a table whose cells another sign separates."""
    widths = {len(cells) for _, cells in lines}
    for delimiter, name in _OTHERS.items():
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = [cells for cells in csv.reader(file, delimiter=delimiter) if cells]
        if not table or {len(cells) for cells in table} != {len(table[0])} or len(table[0]) < 2:
            continue
        decimal = any(_DECIMAL_COMMA.fullmatch(cell) for row in table for cell in row)
        numbers = all(_is_number(cell) for row in table for cell in row)
        # A column of texts that hold such a sign each is not meant: there, commas make a table of equal lines too.
        if widths == {1} or len(widths) > 1 or numbers:
            comma = " and numbers are written with a decimal comma" if decimal else ""
            reading = f"sep={delimiter!r}" + (", decimal=','" if decimal else "")
            raise UsageError(
                f"its cells are separated by {name}, not by commas{comma}",
                where=path.name,
                hint=f"write it with commas: pandas.read_csv(FILE, {reading}).to_csv(FILE, index=False)",
            )
