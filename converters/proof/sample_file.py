"""What is certain about a file of sample rows before a model is opened: its kind, its form, and that it has rows.

Of the standard library only: a model is registered where no numpy is. What a model makes of the rows, only its
conversion can say.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from converters.proof import sample_text
from edgepack.errors import UsageError

# Larger files are read by the conversion only, which has limits of its own.
_MAX_BYTES = 16 << 20
# As numpy limits it itself (``max_header_size``).
_MAX_HEADER = 10000
_NUMPY = b"\x93NUMPY"
_PARQUET = b"PAR1"


def check_sample(path: Path) -> None:
    """Raise ``UsageError`` for another kind of file, one that is broken, or one without rows."""
    check = _CHECKS[kind_of(path)]
    if path.stat().st_size <= _MAX_BYTES:
        with readable(path):
            if not check(path):
                raise no_rows(path)


def kind_of(path: Path) -> str:
    """The ending of a sample file, such as ``.csv``. Raises ``UsageError`` for another one."""
    ending = path.suffix.lower()
    if ending not in _CHECKS:
        *others, last = _CHECKS
        hint = f"give a {', '.join(others)} or {last} file"
        raise UsageError("unsupported kind of sample file", where=path.name, hint=hint)
    return ending


def no_rows(path: Path) -> UsageError:
    """What to tell the user of a sample without rows."""
    return UsageError("the sample has no rows", where=path.name, hint="give at least one row of inputs")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What readers raise for a broken file, as one error."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UsageError("is not text in UTF-8", where=path.name, hint="save it in that encoding") from error
    except RecursionError as error:
        raise UsageError("its lists are nested too deeply", where=path.name, hint="check the file's format") from error
    except (ValueError, KeyError, TypeError, EOFError, SyntaxError, BadZipFile, csv.Error) as error:
        raise UsageError(
            f"the sample cannot be read ({error})", where=path.name, hint="check the file's format"
        ) from error


def _csv(path: Path) -> bool:
    lines = sample_text.lines_of(path)
    if not lines:
        return False
    names, rows = sample_text.header_and_rows(lines)
    sample_text.require_equal_rows([cells for _, cells in rows], names)
    return bool(rows)


def _json(path: Path) -> bool:
    document = json.loads(path.read_bytes())
    if isinstance(document, Mapping) and "data" not in document:
        return bool(document) and all(value != [] for value in document.values())
    names, rows = sample_text.records_of(document)
    sample_text.require_equal_rows(rows, names)
    return bool(rows)


def _npy(path: Path) -> bool:
    with path.open("rb") as file:
        return _has_array_rows(file)


def _npz(path: Path) -> bool:
    with ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            with archive.open(name) as member:
                if not _has_array_rows(member):
                    return False
    return bool(names)


def _has_array_rows(file: IO[bytes]) -> bool:
    """Whether an array of numpy has rows, by its header (``numpy.lib.format``)."""
    start = file.read(8)
    if not start.startswith(_NUMPY):
        raise ValueError("it is not an array of numpy")
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    header = ast.literal_eval(file.read(min(length, _MAX_HEADER)).decode("latin-1"))
    if str(header["descr"]).startswith("|O"):
        raise ValueError("it holds Python objects, not numbers or texts")
    return 0 not in header["shape"][:1]


def _parquet(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        if start != _PARQUET or file.read() != _PARQUET:
            raise ValueError("it is not a whole Parquet file")
    return True


_CHECKS: Mapping[str, Callable[[Path], bool]] = {
    ".csv": _csv,
    ".json": _json,
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
}
