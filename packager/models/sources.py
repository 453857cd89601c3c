"""The files and folders that a model is registered from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from converters.source.contents import check_model
from converters.source.onnx_file import check_onnx, external_files
from edgepack.errors import NotFoundError, UsageError
from edgepack.oci.layer import LayerEntry
from packager.layers.folder import FileTree, read_tree
from packager.layers.ignore import IGNORE_FILE
from packager.models.files import describe_files, framework_of
from packager.models.model import Framework, ModelFile, onnx_path


@dataclass(frozen=True)
class Source:
    """A file or folder, and what is shipped of it: all, or the files ``chosen`` below a folder."""

    path: Path
    tree: FileTree
    chosen: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What it is called in the model."""
        return self.tree.entries[0].path.partition("/")[0]

    def file(self, entry_path: str) -> Path:
        """Where the entry's file is."""
        return self.path.joinpath(*PurePosixPath(entry_path).parts[1:])


def gather(paths: Sequence[Path], child_paths: Sequence[str] = ()) -> tuple[Source, ...]:
    """What is registered of ``paths``, or of the files ``child_paths`` below the only one of them.

    Raises what ``read_tree`` raises, and ``UsageError`` for two of the same name and for a child that is not below its
    folder, ``NotFoundError`` for one that does not exist.
    """
    if not paths:
        raise UsageError("a model needs a file or a folder", hint="give its path")
    if child_paths:
        if len(paths) > 1 or not paths[0].is_dir():
            raise UsageError("files can be chosen from one folder only", where=paths[0], hint="give that folder's path")
        return (_chosen(paths[0], child_paths),)
    found = tuple(Source(path, read_tree(path)) for path in paths)
    names = [source.name for source in found]
    for source in found:
        if names.count(source.name) > 1:
            raise UsageError(
                f"two of the files are called {source.name!r}", where=source.path,
                hint="rename one, or register the folder that holds both",
            )  # fmt: skip
    return found


def _chosen(folder: Path, child_paths: Sequence[str]) -> Source:
    tree = read_tree(folder)
    top = tree.entries[0].path.partition("/")[0]
    kept: set[str] = set()
    for child in child_paths:
        inner = os.path.normpath(child)
        if inner.startswith(("/", "..")) or inner == ".":
            raise UsageError(
                f"{child!r} is not a path below the folder", where=folder, hint="write it as the folder has it"
            )
        found = {entry.path for entry in tree.entries if _is_at(entry.path, f"{top}/{inner}")}
        if not found:
            out = next((one.rule for one in tree.left_out if _is_at(inner, one.path)), None)
            if out is not None:
                raise UsageError(
                    f"is left out ({out})", where=folder / inner, hint=f"a line with ! in {IGNORE_FILE} brings it back"
                )
            raise NotFoundError("there is no such file", where=folder / inner, hint="check the path")
        kept |= found
    entries = tuple(entry for entry in tree.entries if entry.path in kept)
    if not any(entry.kind == "file" for entry in entries):
        raise UsageError("holds no file", where=folder / child_paths[0], hint="choose at least one file")
    chosen = tuple(folder.joinpath(*PurePosixPath(entry.path).parts[1:]) for entry in entries if entry.kind == "file")
    return Source(folder, replace(tree, entries=entries, left_out=()), chosen)


def _is_at(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def framework_by_files(sources: Sequence[Source]) -> Framework:
    """What the first of them that tells says that the model was trained with."""
    asked = [path for source in sources for path in (source.chosen or (source.path,))]
    found = [framework_of(path) for path in asked]
    return next((one for one in found if one is not Framework.CUSTOM), Framework.CUSTOM)


def described(sources: Sequence[Source], framework: Framework) -> tuple[ModelFile, ...]:
    """Path, size and hash of all files, none of which is certainly something else, or holds a credential.

    Raises ``UsageError`` and, for a file that holds a credential, ``EdgepackError``.
    """
    for source in sources:
        for path in source.chosen or (source.path,):
            check_model(path, framework.value)
    if framework is Framework.ONNX:
        _check_onnx(sources)
    return tuple(
        file for source in sources for file in describe_files(source.tree.entries, source.path, source.tree.kept)
    )


def entries_of(sources: Sequence[Source]) -> list[LayerEntry]:
    """The entries of all of them."""
    return [entry for source in sources for entry in source.tree.entries]


def _check_onnx(sources: Sequence[Source]) -> None:
    entries = entries_of(sources)
    main = onnx_path([entry.path for entry in entries if entry.kind == "file"], sources[0].path)
    source = next(one for one in sources if _is_at(main, one.name))
    file = source.file(main)
    check_onnx(file)
    beside = PurePosixPath(main).parent
    paths = {PurePosixPath(entry.path) for entry in entries if entry.kind != "dir"}
    missing = sorted(name for name in external_files(file) if beside / name not in paths)
    if missing:
        raise UsageError(
            f"keeps weights in {', '.join(missing)}, which is not among the files", where=source.path,
            hint="register the folder that holds both",
        )  # fmt: skip
