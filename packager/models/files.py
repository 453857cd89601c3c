"""The files of a model as layers: original names under the path that Azure's images use."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from converters.source import recognition
from edgepack.errors import DigestMismatchError, SizeMismatchError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.layer import Layer, LayerEntry
from edgepack.oci.store import Store
from packager.layers.compressors import write_best_layer
from packager.layers.folder import unreadable
from packager.layers.secrets import SecretSearch, known_secrets
from packager.models.model import Framework, ModelFile

# A file of this size or more is a layer of its own, so that changing its neighbours does not move it.
OWN_LAYER = 64 << 20


def framework_of(path: Path) -> Framework:
    """What its name or its content says that a model was trained with; ``Custom`` where they say nothing."""
    return Framework(recognition.framework_of(path) or Framework.CUSTOM)


def describe_files(entries: Sequence[LayerEntry], where: Path, kept: Collection[str] = ()) -> tuple[ModelFile, ...]:
    """Path, size and hash of every file among ``entries``, none of which holds a credential, or is named like one.

    Private keys pass in the files ``kept``. Raises ``EdgepackError`` naming the file that holds one, ``UsageError``
    for one that cannot be read.
    """
    search = SecretSearch(known_secrets())
    for entry in entries:
        search.check_name(entry.path)
        search.check_name(entry.linkname)
    return tuple(_describe(entry, search, where, entry.path in kept) for entry in entries if entry.kind == "file")


def _describe(entry: LayerEntry, search: SecretSearch, where: Path, is_kept: bool) -> ModelFile:
    sha256, size = hashlib.sha256(), 0
    try:
        with _content(entry) as file:
            pieces = iter(lambda: file.read(LIMITS.chunk_bytes), b"")
            for piece in search.passing(pieces, where.parent / entry.path, keys=not is_kept):
                sha256.update(piece)
                size += len(piece)
    except OSError as error:
        raise unreadable(error, where) from error
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
