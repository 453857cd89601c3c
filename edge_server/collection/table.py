"""Rows as CSV that a spreadsheet can open without running formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

# What spreadsheets take for a formula, after OWASP's "CSV injection".
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def encode(rows: Iterable[Sequence[Any]]) -> bytes:
    """The rows as CSV of RFC 4180 in UTF-8; text with commas, quotes or line breaks is quoted.

    Text that a spreadsheet would run gets an apostrophe before it; NUL characters are left out, since after a power cut
    a file may end in them. None is an empty cell.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


@lru_cache(256)
def encode_header(names: tuple[str, ...]) -> bytes:
    """The header's line, made once for each."""
    return encode([names])


def _cell(value: Any) -> Any:
    if value.__class__ is float or value.__class__ is int or value is None:
        return value
    if not isinstance(value, str):
        return value if isinstance(value, (int, float)) else _cell(str(value))
    if "\0" in value:
        value = value.replace("\0", "")
    return "'" + value if value.startswith(_FORMULA) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def whole_length(data: bytes) -> int:
    """How many bytes of CSV are whole rows: up to the last line end outside of quotes, before any NUL."""
    end = data.find(b"\0")
    if end < 0:
        end = len(data)
        # The usual case: as many quotes open as close, and the last row has its end.
        if data.endswith(b"\n") and data.count(b'"') % 2 == 0:
            return end
    whole = position = 0
    quoted = False
    while position < end:
        line_end = data.find(b"\n", position, end)
        if line_end < 0:
            break
        quoted ^= data.count(b'"', position, line_end) % 2 == 1
        position = line_end + 1
        if not quoted:
            whole = position
    return whole
