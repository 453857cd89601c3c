"""An entry script and its source directory, as an image has them."""

from __future__ import annotations

import keyword
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from edgepack.errors import NotFoundError, UsageError
from edgepack.oci.layer import LayerEntry
from packager.images.paths import APP_ROOT
from packager.inference.script_check import check_script
from packager.models.files import entries_of

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

    Raises ``NotFoundError`` for a missing file or folder, ``UsageError`` for a script that Python could not import by
    its name, or that lies outside of its source directory.
    """
    stem, suffix = PurePosixPath(script).stem, PurePosixPath(script).suffix
    if suffix != ".py" or not stem.isidentifier() or keyword.iskeyword(stem):
        raise UsageError(
            "must be a .py file whose name Python can import", where=script, hint="call it score.py, for example"
        )
    if source_directory is None:
        if not Path(script).is_file():
            raise NotFoundError("there is no such file", where=script, hint="check --entry-script")
        return EntryScript(Path(script).name, APP_ROOT, _below(APP_ROOT, entries_of(Path(script))))
    inner = PurePosixPath(script)
    if inner.is_absolute() or ".." in inner.parts:
        raise UsageError(
            "must be inside of the source directory", where=script, hint=f"give its path below {source_directory}"
        )
    if not source_directory.is_dir():
        raise NotFoundError("there is no such folder", where=source_directory, hint="check --source-directory")
    if not (source_directory / script).is_file():
        raise NotFoundError("there is no such file", where=source_directory / script, hint="check --entry-script")
    found = [entry for entry in entries_of(source_directory) if not _LEFT_OUT & set(entry.path.split("/"))]
    return EntryScript(str(inner), f"{APP_ROOT}/{found[0].path.partition('/')[0]}", _below(APP_ROOT, found))


def check_entry_script(script: EntryScript, python: str, packages: frozenset[str] | None) -> None:
    """Raise ``UsageError`` for what cannot start in an image with Python ``python`` and the modules ``packages``.

    Nothing is run. ``packages`` is None where the content of the base is not known; of the imports, only those of
    modules that another one hides are then refused.
    """
    below = f"{script.folder}/"
    entries = {entry.path.removeprefix(below): entry for entry in script.entries if entry.path.startswith(below)}
    sources: dict[str, Callable[[], bytes]] = {}
    for path, entry in entries.items():
        if entry.kind == "symlink":
            entry = entries.get(posixpath.normpath(f"{posixpath.dirname(path)}/{entry.linkname}".lstrip("/")), entry)
        if entry.kind != "file":
            path = f"{path}/"  # what is in a folder has a name of its own, what is in a linked one has not
        sources[path] = partial(_read, entry)
    name = script.folder.rpartition("/")[2] if script.folder != APP_ROOT else ""
    if name and not any(path.startswith((f"{name}/", f"{name}.")) for path in sources):
        # The folder above is searched too: the source directory may be a package.
        sources |= {f"{name}/{path}": read for path, read in sources.items()}
    else:
        name = ""
    if script.file in sources:  # else it is below a link to a folder
        check_script(script.file, sources, python, packages, name)


def _read(entry: LayerEntry) -> bytes:
    if entry.content is None:
        return b""
    with entry.content() as file:
        return file.read()


def _below(folder: str, entries: list[LayerEntry]) -> tuple[LayerEntry, ...]:
    return tuple(replace(entry, path=f"{folder}/{entry.path}") for entry in entries)
