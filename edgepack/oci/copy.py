"""Copy an image, with everything that it needs, from one place to another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from edgepack.errors import NotFoundError
from edgepack.host.lanes import Lanes
from edgepack.host.progress import Advance, Progress, counted, unseen
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import walk
from edgepack.oci.sources import BlobSink, BlobSource, takes_threads

# More connections share the same disk and line, and registries count them.
_LANES = 3
_DOCUMENTS = mediatypes.INDEXES | mediatypes.MANIFESTS


class StoppedError(Exception):
    """A blob is not wanted any more."""


@dataclass(frozen=True)
class CopyReport:
    """What a copy did: bytes and blobs that moved, and bytes that were already present; ``blobs`` that moved."""

    moved_bytes: int
    moved_blobs: int
    present_bytes: int
    blobs: frozenset[Digest] = frozenset()

    def __add__(self, other: CopyReport) -> CopyReport:
        return CopyReport(
            self.moved_bytes + other.moved_bytes,
            self.moved_blobs + other.moved_blobs,
            self.present_bytes + other.present_bytes,
            self.blobs | other.blobs,
        )


def copy(
    source: BlobSource,
    sink: BlobSink,
    root: Descriptor,
    on_blob: Callable[[Descriptor, bool], None] | None = None,
    *,
    progress: Progress = unseen,
) -> CopyReport:
    """Bring ``root`` and all that it needs from ``source`` to ``sink``; blobs first, manifests last.

    ``on_blob`` is called with each blob and whether it has to move; ``progress`` watches those that do. Where both
    places take several threads, a few blobs move side by side. Raises what the two places raise.
    """
    report, lock = CopyReport(0, 0, 0), threading.Lock()

    def move(item: Descriptor) -> None:
        nonlocal report
        new = not sink.has(item)
        with lock:
            if on_blob is not None:
                on_blob(item, new)
        moved = False
        if new:
            with progress(title_of(item), item.size) as advance:
                watched = WatchedSource(source, advance, lanes.stopped.is_set)
                sink.put(item, watched)
                moved = watched.is_read  # else the sink had it elsewhere
        with lock:
            report += _moved(item) if moved else CopyReport(0, 0, item.size)

    try:
        with Lanes(_LANES if takes_threads(source) and takes_threads(sink) else 1) as lanes:
            for item in walk(source, root):
                if item.media_type in _DOCUMENTS:
                    lanes.wait()  # what it names is there before it
                    move(item)
                else:
                    lanes.submit(partial(move, item))
            lanes.wait()
    except NotFoundError as error:
        raise NotFoundError(error.what, where=error.where, hint="the copy is incomplete; fetch again") from error
    return report


def _moved(item: Descriptor) -> CopyReport:
    return CopyReport(item.size, 1, 0, frozenset({item.digest}))


def digests(source: BlobSource, root: Descriptor) -> frozenset[Digest]:
    """All that ``root`` is made of."""
    return frozenset(item.digest for item in walk(source, root))


def title_of(descriptor: Descriptor) -> str:
    """What to call a blob: a layer by what it holds, anything else by what it is."""
    kind, title = descriptor.kind, descriptor.annotations.get(mediatypes.LAYER_TITLE, "")
    if kind is not None or title:
        return f"{kind or 'layer'} {title}".rstrip()
    for name, types in (
        ("index", mediatypes.INDEXES), ("manifest", mediatypes.MANIFESTS), ("configuration", mediatypes.CONFIGS),
    ):  # fmt: skip
        if descriptor.media_type in types:
            return name
    return f"layer {descriptor.digest.short}"


class WatchedSource:
    """One blob of ``source``, which tells ``advance`` what is read of it: from where it is opened, also again.

    A read raises ``StoppedError`` once it ``is_stopped``, because another blob of the same copy has failed.
    """

    def __init__(self, source: BlobSource, advance: Advance, is_stopped: Callable[[], bool]) -> None:
        self._source = source
        self._advance = advance
        self._is_stopped = is_stopped
        self._at = 0
        self.is_read = False
        """Whether it was ever opened."""

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of the blob from ``offset`` on; raises what the source raises."""
        self.is_read = True
        self._moved(offset - self._at)
        with self._source.open(descriptor, offset) as stream:
            yield counted(stream, self._moved)

    def _moved(self, count: int) -> None:
        if self._is_stopped():
            raise StoppedError
        self._at += count
        self._advance(count)
