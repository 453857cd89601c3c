"""What a place holds of an image, where its index names more than is there.

An engine that keeps images as it pulled them has the platforms that it runs, and the index of all; ``docker save`` and
layouts made from it are so (image-spec 1.1, image-layout.md: a blob that is named may be missing).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from edgepack.errors import NotFoundError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import check_image, children
from edgepack.oci.manifest import Index
from edgepack.oci.sources import BlobSource

# On what BuildKit attaches to an image, the digest of that image (buildkit, docs/attestations/attestation-storage.md).
_REFERENCE = "vnd.docker.reference.digest"


class HoldsBlobs(BlobSource, Protocol):
    """A source that knows what it has."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, with the size that the descriptor says."""


@dataclass(frozen=True)
class Available:
    """An image as far as its place holds it: a blob source of ``root`` and all that it needs.

    ``root`` is the image itself where all of it is there; else what there is: one image, or an index of several, made
    here. ``absent`` are the entries that are left out.
    """

    source: HoldsBlobs
    root: Descriptor
    absent: tuple[Descriptor, ...] = ()
    documents: Mapping[Digest, bytes] = field(default_factory=dict)

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob from ``offset`` on, as from ``source``."""
        if descriptor.digest in self.documents:
            yield io.BytesIO(self.documents[descriptor.digest][offset:])
            return
        with self.source.open(descriptor, offset) as stream:
            yield stream

    @property
    def absent_names(self) -> str:
        """The absent platforms, for a message; an image without a platform by its digest."""
        return _names(self.absent)


def available(source: HoldsBlobs, root: Descriptor) -> Available:
    """What ``source`` holds of ``root``.

    Raises ``NotFoundError`` when it lacks ``root`` itself, something of an image, or every image of an index; what
    ``children`` raises for one that is damaged.
    """
    documents: dict[Digest, bytes] = {}
    absent: list[Descriptor] = []
    found = _held(source, root, documents, absent, 0)
    if found is None:
        raise NotFoundError(
            f"of the images that it names none is there ({_names(absent) or 'it names none'})",
            where=f"index {root.digest}",
            hint="pull one of them, and save it again",
        )
    if found.digest != root.digest:
        root = Descriptor(found.media_type, found.digest, found.size, root.annotations)
    return Available(source, root, tuple(absent), documents)


def _held(
    source: HoldsBlobs, item: Descriptor, documents: dict[Digest, bytes], absent: list[Descriptor], depth: int
) -> Descriptor | None:
    """``item``, or what is there of it; ``None`` when nothing is. What is left out is added to ``absent``."""
    if item.media_type not in mediatypes.INDEXES or depth >= LIMITS.index_depth:
        if depth == 0:
            check_image(item)
        if depth == 0 or _complete(source, item):
            return item
        absent.append(item)
        return None
    if depth and not _has(source, item):
        absent.append(item)
        return None
    named = children(source, item)
    found = [(one, _held(source, one, documents, absent, depth + 1)) for one in named]
    there = {one.digest for one, held in found if held is not None}
    kept = []
    for one, held in found:
        if held is None:
            continue
        if one.annotations.get(_REFERENCE, str(one.digest)) not in map(str, there):
            absent.append(one)  # it says something of an image that is not here
        else:
            kept.append(held)
    if kept == list(named):
        return item
    if all(_is_attached(one) for one in kept):
        return None
    if len(kept) == 1:
        return kept[0]
    data = Index(tuple(kept), media_type=item.media_type).to_bytes()
    made = Descriptor(item.media_type, Digest.of(data), len(data), item.annotations, item.platform)
    documents[made.digest] = data
    return made


def _is_attached(item: Descriptor) -> bool:
    """Whether an entry of an index is not an image but what a builder attaches to one."""
    return item.platform is not None and item.platform.os == "unknown"


def _names(items: Sequence[Descriptor]) -> str:
    return ", ".join(sorted({str(one.platform or one.digest) for one in items if not _is_attached(one)}))


def _complete(source: HoldsBlobs, item: Descriptor) -> bool:
    return _has(source, item) and all(_has(source, blob) for blob in children(source, item))


def _has(source: HoldsBlobs, item: Descriptor) -> bool:
    """Whether the blob is there; raises ``SizeMismatchError`` for one of another size, which is not the same."""
    if source.has(item):
        return True
    try:
        with source.open(item):
            return True
    except NotFoundError:
        return False
