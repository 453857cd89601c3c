"""Walking an image's graph: an index names manifests, a manifest its configuration and layers.

One depth-first visit serves every caller: each descriptor once, on the way down and on the way up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgepack.errors import InvalidDocumentError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest, schema_1_error
from edgepack.oci.sources import BlobSource, read_verified

Children = Callable[[Descriptor], tuple[Descriptor, ...]]


def walk(source: BlobSource, root: Descriptor) -> Iterator[Descriptor]:
    """``root`` and everything that it needs, each once, dependencies first, so ``root`` comes last.

    Raises ``VerificationError`` for indexes nested deeper than ``Limits.index_depth`` and for a document of another
    type than its descriptor says, and what ``source`` raises.
    """
    return (item for item, finished in visit(root, lambda item: children(source, item)) if finished)


def images(source: BlobSource, root: Descriptor) -> tuple[tuple[Descriptor, Manifest], ...]:
    """The image manifests that ``root`` names, each once: itself, or one for each platform of an index."""

    def of_index(item: Descriptor) -> tuple[Descriptor, ...]:
        return children(source, item) if item.media_type in mediatypes.INDEXES else ()

    visited = visit(root, of_index)
    found = [item for item, finished in visited if not finished and item.media_type not in mediatypes.INDEXES]
    return tuple((item, Manifest.from_bytes(read_verified(source, item), f"manifest {item.digest}")) for item in found)


def visit(root: Descriptor, children_of: Children) -> Iterator[tuple[Descriptor, bool]]:
    """``root`` with False, then everything that ``children_of`` finds below it, each once, then ``root`` with True.

    Raises ``VerificationError`` for indexes nested deeper than ``Limits.index_depth``.
    """
    return _visit(root, children_of, set(), 0)


def _visit(
    item: Descriptor, children_of: Children, seen: set[tuple[Digest, int, str]], depth: int
) -> Iterator[tuple[Descriptor, bool]]:
    # Before going down, not after: an index may name the same child many times, at every level. By size and type too: a
    # second descriptor that lies about the blob must not hide behind the first.
    name = (item.digest, item.size, item.media_type)
    if name in seen:
        return
    seen.add(name)
    yield item, False
    if depth >= LIMITS.index_depth and item.media_type in mediatypes.INDEXES:
        raise VerificationError(f"indexes are nested more than {LIMITS.index_depth} deep", where=f"index {item.digest}")
    for child in children_of(item):
        yield from _visit(child, children_of, seen, depth + 1)
    yield item, True


def children(source: BlobSource, item: Descriptor) -> tuple[Descriptor, ...]:
    """What the index or manifest ``item`` names; nothing for other blobs, which are not read.

    Raises as ``walk`` does, and ``NotFoundError``.
    """
    if item.media_type in mediatypes.SCHEMA_1:
        check_image(item)
    if item.media_type in mediatypes.INDEXES:
        index = Index.from_bytes(read_verified(source, item), f"index {item.digest}", implied=item.media_type)
        _check_type(item, index.media_type)
        return index.manifests
    return read_manifest(source, item).blobs if item.media_type in mediatypes.MANIFESTS else ()


def read_manifest(source: BlobSource, item: Descriptor) -> Manifest:
    """The manifest that ``item`` describes; raises as ``walk`` does, and ``NotFoundError``."""
    manifest = Manifest.from_bytes(read_verified(source, item), f"manifest {item.digest}", implied=item.media_type)
    _check_type(item, manifest.media_type)
    return manifest


def check_image(item: Descriptor) -> None:
    """Raise ``InvalidDocumentError`` unless the descriptor is that of an image or index of images."""
    if item.media_type in mediatypes.SCHEMA_1:
        raise schema_1_error(f"manifest {item.digest}")
    if item.media_type not in mediatypes.INDEXES | mediatypes.MANIFESTS:
        raise InvalidDocumentError(f"blob {item.digest}", [f"is {item.media_type} and not an image"])


def _check_type(item: Descriptor, media_type: str) -> None:
    # The same bytes read as an index here and as a manifest elsewhere would be two different images.
    if media_type != item.media_type:
        raise VerificationError(f"is {item.media_type} by its descriptor and {media_type} by itself", where=item.digest)
