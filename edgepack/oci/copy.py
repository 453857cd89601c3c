"""The one verb between places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgepack.errors import NotFoundError, SizeMismatchError, VerificationError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.manifest import MAX_MANIFEST_SIZE, Index, Manifest
from edgepack.oci.sources import BlobSink, BlobSource

# Two levels are what exists (an index of images); deeper ones are only made to exhaust whoever reads them.
MAX_DEPTH = 8


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
    """Everything that ``root`` needs, each once, the needed before what needs it, ``root`` last.

    Raises ``VerificationError`` for indexes nested deeper than ``MAX_DEPTH``, and what ``source`` raises.
    """
    yield from _walk(source, root, set(), 0)


def _walk(source: BlobSource, root: Descriptor, seen: set[tuple[Digest, int]], depth: int) -> Iterator[Descriptor]:
    # Before going down, not after: an index may name the same child many times, at every level. And by size too: a
    # second descriptor that lies about the size must not hide behind the first.
    if (root.digest, root.size) in seen:
        return
    seen.add((root.digest, root.size))
    if root.media_type in mediatypes.INDEXES:
        for child in _children(source, root, depth):
            yield from _walk(source, child, seen, depth + 1)
    elif root.media_type in mediatypes.MANIFESTS:
        for blob in Manifest.from_bytes(read_verified(source, root), f"manifest {root.digest}").blobs:
            if (blob.digest, blob.size) not in seen:
                seen.add((blob.digest, blob.size))
                yield blob
    yield root


def _children(source: BlobSource, root: Descriptor, depth: int) -> tuple[Descriptor, ...]:
    if depth >= MAX_DEPTH:
        raise VerificationError(f"indexes are nested more than {MAX_DEPTH} deep", where=f"index {root.digest}")
    return Index.from_bytes(read_verified(source, root), f"index {root.digest}").manifests


def images(source: BlobSource, root: Descriptor) -> tuple[tuple[Descriptor, Manifest], ...]:
    """The image manifests that ``root`` names, each once: itself, or one for each platform of an index."""
    found: list[tuple[Descriptor, Manifest]] = []
    _images(source, root, found, set(), 0)
    return tuple(found)


def _images(
    source: BlobSource, root: Descriptor, found: list[tuple[Descriptor, Manifest]], seen: set[Digest], depth: int
) -> None:
    if root.digest in seen:
        return
    seen.add(root.digest)
    if root.media_type in mediatypes.INDEXES:
        for child in _children(source, root, depth):
            _images(source, child, found, seen, depth + 1)
    else:
        found.append((root, Manifest.from_bytes(read_verified(source, root), f"manifest {root.digest}")))


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
