"""The files of a model as layers: original names under the path that Azure's images use."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import NotFoundError, UsageError
from edgepack.oci.layer import Layer, LayerEntry
from edgepack.oci.store import Store
from packager.compressors import write_best_layer

# A file of this size or more is a layer of its own, so that changing its neighbours does not move it.
OWN_LAYER = 64 << 20


@dataclass(frozen=True)
class ModelFile:
    """One file of a registered model: its path below the version's folder, bytes, and sha256."""

    path: str
    size: int
    sha256: str


def entries_of(path: Path, below: str) -> list[LayerEntry]:
    """The entries of a model file (by its base name) or folder (its name kept), below ``below``.

    Raises ``NotFoundError`` when ``path`` is not there, ``UsageError`` for links out of it and special files.
    """
    if not path.exists():
        raise NotFoundError("there is no such file or folder", where=path, hint="check the path of the model")
    path = path.resolve()
    found = list(_entries(path, path, f"{below}/{path.name}"))
    if not any(entry.kind == "file" for entry in found):
        raise UsageError("holds no file", where=path, hint="give the model's file or its folder")
    return found


def _entries(path: Path, root: Path, name: str) -> Iterator[LayerEntry]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = path.resolve()
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
        yield LayerEntry.of_file(name, path)
    else:
        raise UsageError("is neither a file nor a folder", where=path, hint="leave it out of the model's folder")


def write_model_layers(entries: list[LayerEntry], store: Store, title: str) -> tuple[Layer, ...]:
    """Write a model's entries: small files together, each file of 64 MiB or more alone; the small ones last."""
    large = [[entry] for entry in entries if entry.size >= OWN_LAYER]
    small = [entry for entry in entries if entry.size < OWN_LAYER]
    groups = [*large, small] if any(entry.kind == "file" for entry in small) or not large else large
    return tuple(write_best_layer(group, store, kind="model", title=title) for group in groups)


def describe_files(entries: list[LayerEntry], below: str) -> tuple[ModelFile, ...]:
    """Path, size and hash of every file among ``entries``."""
    found = []
    for entry in entries:
        if entry.kind == "file" and entry.content is not None:
            with entry.content() as file:
                sha256 = hashlib.sha256()
                while chunk := file.read(1 << 20):
                    sha256.update(chunk)
            found.append(ModelFile(entry.path.removeprefix(f"{below}/"), entry.size, sha256.hexdigest()))
    return tuple(found)
