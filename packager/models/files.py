"""The files of a model as layers: original names under the path that Azure's images use."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from converters.source import kinds
from edgepack.errors import DigestMismatchError, NotFoundError, SizeMismatchError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.layer import Layer, LayerEntry, ordered
from edgepack.oci.store import Store
from packager.layers.compressors import write_best_layer
from packager.layers.secrets import SecretSearch, known_secrets
from packager.models.model import Framework, ModelFile

# A file of this size or more is a layer of its own, so that changing its neighbours does not move it.
OWN_LAYER = 64 << 20


def entries_of(path: Path) -> list[LayerEntry]:
    """The entries of a model file (by its base name) or folder (its name kept), links kept as links.

    Raises ``NotFoundError`` when ``path`` does not exist, ``UsageError`` for what cannot be read, links out of the
    folder, special files, names that no layer can hold, and a folder without any file.
    """
    try:
        if not path.exists():
            raise NotFoundError("there is no such file or folder", where=path, hint="check the path of the model")
        # A link is called by its own name, and `.` by the folder's.
        name = path.name if path.name not in ("", "..") else path.resolve().name
        root = Path(os.path.realpath(path))
        if root == Path(root.anchor):
            raise UsageError("is the whole file system", where=path, hint="give the model's file or its folder")
        found = list(_entries(root, root, name))
    except OSError as error:
        raise _unreadable(error, path) from error
    if not any(entry.kind == "file" for entry in found):
        raise UsageError("holds no file", where=path, hint="give the model's file or its folder")
    ordered(found)
    return found


def _entries(path: Path, root: Path, name: str) -> Iterator[LayerEntry]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = Path(os.path.realpath(path))  # which does not fail on a loop
        if not target.is_relative_to(root) or not target.exists():
            raise UsageError("is a link that leads out of the model's folder, or nowhere", where=path,
                             hint="put the file itself there")  # fmt: skip
        up = "../" * (len(path.parent.relative_to(root).parts))
        yield LayerEntry(name, "symlink", 0o777, linkname=f"{up}{target.relative_to(root)}")
    elif stat.S_ISDIR(mode):
        yield LayerEntry(name, "dir", 0o755)
        for child in sorted(path.iterdir()):
            yield from _entries(child, root, f"{name}/{child.name}")
    elif stat.S_ISREG(mode):
        if not os.access(path, os.R_OK):
            raise PermissionError(13, "Permission denied", str(path))
        # A stick's file system may call every file executable: that must not make another layer of the same bytes.
        yield replace(LayerEntry.of_file(name, path), mode=0o644)
    else:
        raise UsageError("is neither a file nor a folder", where=path, hint="leave it out of the model's folder")


def _unreadable(error: OSError, path: Path) -> UsageError:
    return UsageError(
        f"cannot be read ({error.strerror})", where=error.filename or path, hint="check its permissions and the disk"
    )


def framework_of(path: Path) -> Framework:
    """What a file's ending, or a folder's content, says that it was trained with; ``Custom`` where it says nothing."""
    return Framework(kinds.framework_of(path) or Framework.CUSTOM)


def describe_files(entries: Sequence[LayerEntry], where: Path) -> tuple[ModelFile, ...]:
    """Path, size and hash of every file among ``entries``, none of which holds a credential.

    Raises ``EdgepackError`` naming the file that does, ``UsageError`` for one that cannot be read.
    """
    search = SecretSearch(known_secrets())
    return tuple(_describe(entry, search, where) for entry in entries if entry.kind == "file")


def _describe(entry: LayerEntry, search: SecretSearch, where: Path) -> ModelFile:
    sha256, size = hashlib.sha256(), 0
    try:
        with _content(entry) as file:
            for piece in search.passing(iter(lambda: file.read(LIMITS.chunk_bytes), b""), where.parent / entry.path):
                sha256.update(piece)
                size += len(piece)
    except OSError as error:
        raise _unreadable(error, where) from error
    return ModelFile(entry.path, size, sha256.hexdigest())


@contextmanager
def _content(entry: LayerEntry) -> Iterator[BinaryIO]:
    if entry.content is None:
        raise UsageError("has no content", where=entry.path)
    with entry.content() as file:
        yield file


def write_model_layers(
    entries: Sequence[LayerEntry], files: Sequence[ModelFile], below: str, store: Store, title: str
) -> tuple[Layer, ...]:
    """Write what ``describe_files`` saw, below the folder ``below`` of the image.

    Small files together, each file of 64 MiB or more alone; the small ones last. Raises ``UsageError`` for a file that
    changed since it was described.
    """
    described = {file.path: file for file in files}
    placed = [
        replace(_unchanged(entry, described[entry.path]) if entry.kind == "file" else entry,
                path=f"{below}/{entry.path}")
        for entry in entries
    ]  # fmt: skip
    large = [[entry] for entry in placed if entry.size >= OWN_LAYER]
    small = [entry for entry in placed if entry.size < OWN_LAYER]
    groups = [*large, small] if any(not _leads_to(entry, large) for entry in small) else large
    return tuple(write_best_layer(group, store, kind="model", title=title) for group in groups)


def _leads_to(entry: LayerEntry, groups: Sequence[list[LayerEntry]]) -> bool:
    """Whether ``entry`` is a folder that the layers of ``groups`` have anyway."""
    return entry.kind == "dir" and any(group[0].path.startswith(f"{entry.path}/") for group in groups)


def _unchanged(entry: LayerEntry, file: ModelFile) -> LayerEntry:
    """``entry``, whose content fails to be read to its end unless it is what ``file`` says."""

    @contextmanager
    def content() -> Iterator[BinaryIO]:
        try:
            with _content(entry) as stream:
                yield cast(BinaryIO, VerifyingReader(stream, Digest(file.sha256), file.size))
        except (DigestMismatchError, SizeMismatchError):
            raise UsageError("changed while it was read", where=entry.path, hint="run the same command again") from None

    return replace(entry, size=file.size, content=content)
