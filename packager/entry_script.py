"""An entry script and its source directory, as an image has them."""

from __future__ import annotations

import keyword
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgepack.errors import NotFoundError, UsageError
from edgepack.oci.layer import LayerEntry
from packager.model_files import entries_of
from packager.paths import APP_ROOT

# What editors, version control and Python leave beside sources.
_LEFT_OUT = {"__pycache__", ".git", ".hg", ".svn", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


@dataclass(frozen=True)
class EntryScript:
    """`file` is relative to `folder`, which is relative to the image's root; `entries` are all that is shipped."""

    file: str
    folder: str
    entries: tuple[LayerEntry, ...]


def read_entry_script(script: str, source_directory: Path | None) -> EntryScript:
    """The script alone, or its whole source directory, to which ``script`` is then relative.

    Raises ``NotFoundError`` for what is not there, ``UsageError`` for a script that Python could not import by its
    name, or that lies outside of its source directory.
    """
    stem, suffix = PurePosixPath(script).stem, PurePosixPath(script).suffix
    if suffix != ".py" or not stem.isidentifier() or keyword.iskeyword(stem):
        raise UsageError(
            "must be a .py file whose name Python can import", where=script, hint="call it score.py, for example"
        )
    if source_directory is None:
        return EntryScript(Path(script).name, APP_ROOT, _below(APP_ROOT, entries_of(Path(script))))
    inner = PurePosixPath(script)
    if inner.is_absolute() or ".." in inner.parts:
        raise UsageError(
            "must be inside of the source directory", where=script, hint=f"give its path below {source_directory}"
        )
    if not (source_directory / script).is_file():
        raise NotFoundError("there is no such file", where=source_directory / script, hint="check --entry-script")
    found = [entry for entry in entries_of(source_directory) if not _LEFT_OUT & set(entry.path.split("/"))]
    return EntryScript(str(inner), f"{APP_ROOT}/{found[0].path.partition('/')[0]}", _below(APP_ROOT, found))


def _below(folder: str, entries: list[LayerEntry]) -> tuple[LayerEntry, ...]:
    return tuple(replace(entry, path=f"{folder}/{entry.path}") for entry in entries)
