"""Garbage collection: removes the blobs of a workspace that no name leads to, beside commands that write.

First the oldest use of the store is asked for, then what the names lead to. So whoever began later has marked what it
uses after that time, and what an earlier command made is kept by the time of its own lease.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import NoSpaceError
from edgepack.host.files import fsync_dir, locked
from edgepack.oci.digest import Digest
from edgepack.oci.reachable import reachable
from packager.models.model import Model
from packager.workspaces.kept_store import oldest_use
from packager.workspaces.workspace import Workspace


@dataclass(frozen=True)
class Freed:
    """Files that were removed, or would be, and their bytes."""

    files: int = 0
    size: int = 0


@dataclass(frozen=True)
class Collected:
    """What a collection freed: blobs, and what interrupted commands left of some."""

    blobs: Freed
    unfinished: Freed


def collect(workspace: Workspace, *, dry_run: bool = False) -> Collected:
    """Free what nothing needs; with ``dry_run`` only count it.

    Raises ``VerificationError`` for an image whose manifest is damaged, ``EdgepackError`` for a damaged record: what
    they need cannot be known. Raises ``NoSpaceError`` only where nothing that it frees makes room.
    """
    store = workspace.store
    since = oldest_use(store)
    kept = reachable(store, (digest for model in workspace.models.list() for digest in blobs_of(model)))
    candidates = store.digests() - kept.blobs

    def note_names() -> None:
        workspace.config.write(workspace.root)  # one that has nothing any more is a workspace still
        store.untag(kept.dead_lists)

    is_noted = dry_run
    with suppress(NoSpaceError):  # it is then done when there is some
        if not dry_run:
            note_names()
            is_noted = True
    freed = []
    with locked(store.collection_lock):  # nobody marks a blob meanwhile
        for digest in candidates:
            with suppress(FileNotFoundError):
                size = store.path(digest).stat().st_size
                if store.last_use(digest) < since:
                    if not dry_run:
                        store.path(digest).unlink()
                    freed.append(size)
        if not dry_run:
            store.forget_marks(since)
        if freed and not dry_run:
            fsync_dir(store.path(Digest("0" * 64)).parent)
    unfinished = _unfinished(store.unfinished(), dry_run=dry_run)
    if not is_noted:
        note_names()
    return Collected(Freed(len(freed), sum(freed)), unfinished)


def _unfinished(paths: Iterable[Path], *, dry_run: bool) -> Freed:
    freed = []
    for path in paths:
        with suppress(OSError), path.open("r+b") as file:  # gone, or another user's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where it is being written
            freed.append(path.stat().st_size)
            if not dry_run:
                path.unlink()
    return Freed(len(freed), sum(freed))


def blobs_of(model: Model) -> Iterator[Digest]:
    """Every blob that the record of ``model`` names."""
    conversion = model.conversion
    layers = (*model.layers, *(() if conversion is None else conversion.layers))
    samples = (model.sample, model.sample_output, None if conversion is None else conversion.sample)
    yield from (layer.descriptor.digest for layer in layers)
    yield from (sample.blob.digest for sample in samples if sample is not None)
    if conversion is not None:
        yield conversion.report.digest
