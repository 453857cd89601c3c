"""Copy an image, with everything that it needs, from one place to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgepack.errors import NotFoundError
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.graph import walk
from edgepack.oci.sources import BlobSink, BlobSource


@dataclass(frozen=True)
class CopyReport:
    """What a copy did: bytes and blobs that moved, and bytes that were already present."""

    moved_bytes: int
    moved_blobs: int
    present_bytes: int

    def __add__(self, other: CopyReport) -> CopyReport:
        return CopyReport(
            self.moved_bytes + other.moved_bytes,
            self.moved_blobs + other.moved_blobs,
            self.present_bytes + other.present_bytes,
        )


def copy(
    source: BlobSource,
    sink: BlobSink,
    root: Descriptor,
    on_blob: Callable[[Descriptor, bool], None] | None = None,
) -> CopyReport:
    """Bring ``root`` and all that it needs from ``source`` to ``sink``; blobs first, manifests last.

    ``on_blob`` is called with each blob and whether it has to move. Raises what the two places raise.
    """
    moved = blobs = present = 0
    try:
        for item in walk(source, root):
            new = not sink.has(item)
            if on_blob is not None:
                on_blob(item, new)
            if new:
                sink.put(item, source)
                moved += item.size
                blobs += 1
            else:
                present += item.size
    except NotFoundError as error:
        raise NotFoundError(error.what, where=error.where, hint="the copy is incomplete; fetch again") from error
    return CopyReport(moved, blobs, present)
