"""An entry script and its source directory, as an image has them."""

from __future__ import annotations

import keyword
import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from edgepack.errors import NotFoundError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci.layer import LayerEntry
from packager.inference.script_check import check_script
from packager.inference.source_size import SourceSize
from packager.layers.folder import FileTree, LeftOut, read_tree
from packager.layers.ignore import IGNORE_FILE
from packager.layers.paths import APP_ROOT
from packager.layers.secrets import SecretSearch


@dataclass(frozen=True)
class EntryScript:
    """`file` is relative to `folder`, which is relative to the image's root.

    `entries` are all that is shipped; `beside` are the modules in the script's own folder that are not.
    """

    file: str
    folder: str
    entries: tuple[LayerEntry, ...]
    left_out: tuple[LeftOut, ...] = ()
    beside: frozenset[str] = frozenset()


def read_entry_script(script: str, source_directory: Path | None) -> EntryScript:
    """The script alone, or its whole source directory, to which ``script`` is then relative.

    Raises ``NotFoundError`` for a missing file or folder, ``UsageError`` for a script that Python could not import by
    its name, or that lies outside of its source directory, and for a directory that is as large as a home folder.
    """
    check_script_name(script)
    if source_directory is None:
        if not Path(script).is_file():
            raise NotFoundError("there is no such file", where=script, hint="check --entry-script")
        tree = read_tree(Path(script))
        _check_keys(tree, Path(script).parent)
        modules = _modules_beside(Path(script))
        return EntryScript(Path(script).name, APP_ROOT, _below(APP_ROOT, tree.entries), beside=modules)
    inner = PurePosixPath(script)
    if inner.is_absolute() or ".." in inner.parts:
        raise UsageError(
            "must be inside of the source directory", where=script, hint=f"give its path below {source_directory}"
        )
    if not source_directory.is_dir():
        raise NotFoundError("there is no such folder", where=source_directory, hint="check --source-directory")
    if not (source_directory / script).is_file():
        raise NotFoundError("there is no such file", where=source_directory / script, hint="check --entry-script")
    size = SourceSize(source_directory)
    tree = read_tree(source_directory, size.add)
    size.check()
    folder = tree.entries[0].path.partition("/")[0]
    shipped = {entry.path for entry in tree.entries if entry.kind != "dir"}
    if f"{folder}/{inner}" not in shipped and not any((source_directory / one).is_symlink() for one in inner.parents):
        raise UsageError(
            "is left out of the image",
            where=source_directory / script,
            hint=f"let {source_directory / IGNORE_FILE} bring it back by a line with ! and its path",
        )  # fmt: skip
    _check_keys(tree, source_directory.parent)
    return EntryScript(str(inner), f"{APP_ROOT}/{folder}", _below(APP_ROOT, tree.entries), tree.left_out)


def check_script_name(script: str) -> str:
    """``script`` when Python can import it by its name; raises ``UsageError``."""
    stem, suffix = PurePosixPath(script).stem, PurePosixPath(script).suffix
    if suffix != ".py" or not stem.isidentifier() or keyword.iskeyword(stem):
        raise UsageError(
            "must be a .py file whose name Python can import",
            where=script,
            hint=f"call it {_importable(stem)}.py, for example",
        )
    return script


def _importable(stem: str) -> str:
    """A name like ``stem`` that Python can import."""
    name = re.sub(r"\W", "_", stem)
    return name if name.isidentifier() and not keyword.iskeyword(name) else "score"


def _modules_beside(script: Path) -> frozenset[str]:
    """The modules and packages in the folder of a script that is shipped alone."""
    found = {path.stem for path in script.absolute().parent.glob("*.py")}
    found |= {path.parent.name for path in script.absolute().parent.glob("*/*.py")}
    return frozenset(found - {script.stem})


def _check_keys(tree: FileTree, above: Path) -> None:
    """Raise ``EdgepackError`` for a private key in a file that no line of the ignore file keeps."""
    search = SecretSearch(())
    for entry in tree.entries:
        if entry.content is not None and entry.path not in tree.kept:
            with entry.content() as file:
                search.check(iter(lambda: file.read(LIMITS.chunk_bytes), b""), above / entry.path, keys=True)


def check_entry_script(
    script: EntryScript,
    python: str,
    packages: frozenset[str] | None,
    lacks: Callable[[str], bool] = lambda _: False,
) -> None:
    """Raise ``UsageError`` for what cannot start in an image with Python ``python`` and the modules ``packages``.

    Nothing is run. ``packages`` is None where the content of the base is not known; of the imports, only those of
    modules that another one hides are then refused. ``lacks`` tells which of Python's own the base is without.
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
        check_script(script.file, sources, python, packages, name, script.beside, lacks)


def _read(entry: LayerEntry) -> bytes:
    if entry.content is None:
        return b""
    with entry.content() as file:
        return file.read()


def _below(folder: str, entries: Iterable[LayerEntry]) -> tuple[LayerEntry, ...]:
    return tuple(replace(entry, path=f"{folder}/{entry.path}") for entry in entries)
