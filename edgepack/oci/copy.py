"""The one verb between places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgepack.errors import NotFoundError, SizeMismatchError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import VerifyingReader
from edgepack.oci.manifest import MAX_MANIFEST_SIZE, Index, Manifest
from edgepack.oci.places import BlobSink, BlobSource


@dataclass(frozen=True)
class CopyReport:
    """What a copy did: bytes and blobs that moved, and the bytes that were there already."""

    moved_bytes: int
    moved_blobs: int
    present_bytes: int


def read_verified(source: BlobSource, descriptor: Descriptor, limit: int = MAX_MANIFEST_SIZE) -> bytes:
    """The bytes of a small blob, verified; raises ``VerificationError`` and ``NotFoundError``."""
    if descriptor.size > limit:
        raise SizeMismatchError(f"is {descriptor.size} bytes; at most {limit} are read", where=descriptor.digest)
    with source.open(descriptor) as stream:
        reader, parts = VerifyingReader(stream, descriptor.digest, descriptor.size), []
        while chunk := reader.read(1 << 16):
            parts.append(chunk)
    return b"".join(parts)


def walk(source: BlobSource, root: Descriptor) -> Iterator[Descriptor]:
    """Everything that ``root`` needs, each once, the needed before what needs it, ``root`` last."""
    seen: set[str] = set()
    for item in _walk(source, root):
        if str(item.digest) not in seen:
            seen.add(str(item.digest))
            yield item


def _walk(source: BlobSource, root: Descriptor) -> Iterator[Descriptor]:
    if root.media_type in mediatypes.INDEXES:
        for child in Index.from_bytes(read_verified(source, root), f"index {root.digest}").manifests:
            yield from _walk(source, child)
    elif root.media_type in mediatypes.MANIFESTS:
        yield from Manifest.from_bytes(read_verified(source, root), f"manifest {root.digest}").blobs
    yield root


def images(source: BlobSource, root: Descriptor) -> tuple[tuple[Descriptor, Manifest], ...]:
    """The image manifests that ``root`` names: itself, or one for each platform of an index."""
    if root.media_type in mediatypes.INDEXES:
        children = Index.from_bytes(read_verified(source, root), f"index {root.digest}").manifests
        return tuple(pair for child in children for pair in images(source, child))
    return ((root, Manifest.from_bytes(read_verified(source, root), f"manifest {root.digest}")),)


def copy(
    source: BlobSource,
    sink: BlobSink,
    root: Descriptor,
    on_blob: Callable[[Descriptor, bool], None] | None = None,
) -> CopyReport:
    """Bring ``root`` and all that it needs from ``source`` to ``sink``; blobs first, manifests last.

    ``on_blob`` hears of each blob and whether it had to move. Raises what the two places raise.
    """
    moved = blobs = present = 0
    for item in walk(source, root):
        new = not sink.has(item)
        if on_blob is not None:
            on_blob(item, new)
        if new:
            try:
                sink.put(item, source)
            except NotFoundError as error:
                raise NotFoundError(
                    error.what, where=error.where, hint="the copy is incomplete; fetch again"
                ) from error
            moved += item.size
            blobs += 1
        else:
            present += item.size
    return CopyReport(moved, blobs, present)
