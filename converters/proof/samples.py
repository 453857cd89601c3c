"""Rows of input: read from a user's sample file, or generated from what a model keeps of its training data.

Runs inside the sandbox only. Numbers are float64 and int64, text is Python strings; a missing number is NaN.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.proof import sample_file, sample_text
from edgepack.errors import UsageError

MAX_SAMPLE_ROWS = 2000


@dataclass(frozen=True)
class Table:
    """Named columns of equal length, each a one-dimensional numpy array of kind f, i, b or O (text)."""

    names: tuple[str, ...]
    columns: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @property
    def numeric(self) -> bool:
        """Whether no column holds text."""
        return all(column.dtype.kind in "fib" for column in self.columns)

    def matrix(self) -> Any:
        """All columns side by side as float64, shape (rows, columns)."""
        import numpy as np

        return np.column_stack([column.astype(np.float64) for column in self.columns])

    def frame(self) -> Any:
        """A pandas DataFrame, for models that choose columns by name."""
        import pandas as pd  # type: ignore[import-untyped, unused-ignore]

        return pd.DataFrame(dict(zip(self.names, self.columns, strict=True)))

    def take(self, rows: Any) -> Table:
        """The rows of the given indices or slice."""
        return Table(self.names, tuple(column[rows] for column in self.columns))

    def stack(self, other: Table) -> Table:
        """These rows, then the other's."""
        import numpy as np

        pairs = zip(self.columns, other.columns, strict=True)
        return Table(self.names, tuple(np.concatenate(pair) for pair in pairs))

    def numbered(self, names: Collection[str]) -> Table:
        """With the columns of these ``names`` as numbers: what is text there becomes the first number."""
        import numpy as np

        columns = []
        for name, column in zip(self.names, self.columns, strict=True):
            if name in names and column.dtype.kind == "O":
                cells = [cell if cell is None else sample_text.cell_of(cell.replace(",", ".")) for cell in column]
                first = next((cell for cell in cells if isinstance(cell, int | float)), 0)
                column = np.array([first if cell is None or isinstance(cell, str) else cell for cell in cells], float)
            columns.append(column)
        return Table(self.names, tuple(columns))

    def replaced(self, index: int, column: Any) -> Table:
        """With another column at position ``index``."""
        columns = (*self.columns[:index], column, *self.columns[index + 1 :])
        return Table(self.names, columns)


def read(path: Path, *, as_written: bool = False) -> Table:
    """The rows of a ``.csv``, ``.json``, ``.npy``, ``.npz`` or ``.parquet`` file, at most 2000.

    ``as_written`` keeps the cells of CSV as the texts that they are: 01234 may be a code and no number.
    A CSV file whose first line holds any text that is not a number has a header. JSON is ``{"data": rows}`` or
    ``rows``, rows being lists or records. Raises ``UsageError`` for another kind of file or one that is broken.
    """
    readers = {
        ".csv": _read_csv,
        ".json": _read_json,
        ".npy": _read_numpy,
        ".npz": _read_numpy,
        ".parquet": _read_parquet,
    }
    reader = readers[sample_file.kind_of(path)]
    with sample_file.readable(path):
        table = _read_csv(path, as_written) if reader is _read_csv else reader(path)
    if len(table) == 0 or not table.names:
        raise sample_file.no_rows(path)
    return table.take(slice(0, MAX_SAMPLE_ROWS))


def arrays(path: Path) -> dict[str, Any] | None:
    """Arrays of any rank by name, at most 2000 rows each, where the file holds such; None for one of columns.

    These are ``.npz`` and ``.npy`` files, and JSON of the form ``{"name": nested lists, …}``. Text is of dtype object.
    Raises ``UsageError`` for a broken file, or one without rows.
    """
    with sample_file.readable(path):
        found = _arrays(path)
    if found is None:
        return None
    if not found or any(array.ndim and not len(array) for array in found.values()):
        raise sample_file.no_rows(path)
    return {name: array[:MAX_SAMPLE_ROWS] if array.ndim else array for name, array in found.items()}


def _arrays(path: Path) -> dict[str, Any] | None:
    import numpy as np

    if path.suffix.lower() in (".npz", ".npy"):
        found = _load_numpy(path)
    elif path.suffix.lower() == ".json":
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict) or "data" in document:
            return None
        found = {name: np.array(value) for name, value in document.items()}
    else:
        return None
    return {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in found.items()}


def _read_csv(path: Path, as_written: bool = False) -> Table:
    lines = sample_text.lines_of(path)
    if not lines:
        return Table((), ())
    names, rows = sample_text.header_and_rows(lines)
    if as_written:
        return _from_rows([[cell if cell.strip() else None for cell in row] for _, row in rows], names)
    table = _from_rows([list(map(sample_text.cell_of, row)) for _, row in rows], names)
    return Table(table.names, tuple(map(_flags, table.columns)))


def _flags(column: Any) -> Any:
    """A column of nothing but True and False as flags, which other forms than CSV have themselves."""
    import numpy as np

    said = set(column.tolist()) if column.dtype.kind == "O" else set()
    return (
        np.array([cell == "True" for cell in column], dtype=np.bool_) if said and said <= {"True", "False"} else column
    )


def _read_json(path: Path) -> Table:
    names, rows = sample_text.records_of(json.loads(path.read_bytes()))
    return _from_rows(rows, names) if rows else Table((), ())


def _read_numpy(path: Path) -> Table:
    found = _load_numpy(path)
    if len(found) == 1:
        (only,) = found.values()
        if only.ndim == 2:
            return _from_rows(only.tolist(), None)
    return Table(tuple(found), tuple(_column(array.reshape(-1).tolist()) for array in found.values()))


def _load_numpy(path: Path) -> dict[str, Any]:
    import numpy as np

    loaded = np.load(path, allow_pickle=False)
    return {"data": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}


def _read_parquet(path: Path) -> Table:
    try:
        import pandas as pd  # type: ignore[import-untyped, unused-ignore]

        frame = pd.read_parquet(path)
    except ImportError as error:
        raise UsageError(
            "a .parquet sample needs pandas with pyarrow where the model is converted",
            where=path.name,
            hint="give a .csv, .json or .npz file",
        ) from error
    cells = frame.astype(object).where(frame.notna(), None)
    return Table(tuple(map(str, frame.columns)), tuple(_column(cells[name].tolist()) for name in frame.columns))


def _from_rows(rows: Sequence[Sequence[Any]], names: Sequence[str] | None) -> Table:
    width = len(names) if names else len(rows[0]) if rows else 0
    sample_text.require_equal_rows(rows, names)
    columns = [_column([row[index] for row in rows]) for index in range(width)]
    return Table(tuple(names or (f"x{index}" for index in range(width))), tuple(columns))


def _column(cells: list[Any]) -> Any:
    """A typed column: int64 or bool where every cell is one, float64 where cells are numbers or missing, else text."""
    import numpy as np

    present = [cell for cell in cells if cell is not None]
    if present and all(isinstance(cell, bool) for cell in present) and len(present) == len(cells):
        return np.array(cells, dtype=np.bool_)
    if all(isinstance(cell, int | float) for cell in present):
        whole = len(present) == len(cells) and all(isinstance(cell, int) for cell in present)
        if whole:
            return np.array(cells, dtype=np.int64)
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
    return np.array([None if cell is None else str(cell) for cell in cells], dtype=object)
