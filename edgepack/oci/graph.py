"""Walking an image's graph: an index names manifests, a manifest its configuration and layers.

One depth-first visit serves every caller: each descriptor once, on the way down and on the way up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgepack.documents import parse_object
from edgepack.errors import IncompatibleError, InvalidReferenceError, NotFoundError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.sources import BlobSource, read_verified

_Children = Callable[[Descriptor], tuple[Descriptor, ...]]


def walk(source: BlobSource, root: Descriptor) -> Iterator[Descriptor]:
    """``root`` and everything that it needs, each once, dependencies first, so ``root`` comes last.

    Raises ``VerificationError`` for indexes nested deeper than ``Limits.index_depth`` and for a document of another
    type than its descriptor says, and what ``source`` raises.
    """
    visit = _visit(root, lambda item: children(source, item), set(), 0)
    return (item for item, finished in visit if finished)


def needs(source: BlobSource, root: Descriptor, platform: Platform | None = None) -> Iterator[Descriptor]:
    """``root`` and everything that it needs, each once, what names before what is named, so ``root`` comes first.

    With a ``platform``, of an index only the manifests for it. An index or manifest that ``source`` does not have is
    yielded without what it names. Raises ``IncompatibleError`` when there is nothing for ``platform``, and
    ``VerificationError`` or ``InvalidDocumentError`` as ``walk`` does.
    """

    def present(item: Descriptor) -> tuple[Descriptor, ...]:
        try:
            return children(source, item, platform)
        except NotFoundError:
            return ()

    return (item for item, finished in _visit(root, present, set(), 0) if not finished)


def images(source: BlobSource, root: Descriptor) -> tuple[tuple[Descriptor, Manifest], ...]:
    """The image manifests that ``root`` names, each once: itself, or one for each platform of an index."""

    def of_index(item: Descriptor) -> tuple[Descriptor, ...]:
        return children(source, item) if item.media_type in mediatypes.INDEXES else ()

    visit = _visit(root, of_index, set(), 0)
    found = [item for item, finished in visit if not finished and item.media_type not in mediatypes.INDEXES]
    return tuple((item, Manifest.from_bytes(read_verified(source, item), f"manifest {item.digest}")) for item in found)


def _visit(
    item: Descriptor, children_of: _Children, seen: set[tuple[Digest, int, str]], depth: int
) -> Iterator[tuple[Descriptor, bool]]:
    """``item`` with False, then everything below it, then ``item`` with True."""
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


def platform_manifest(source: BlobSource, root: Descriptor, platform: Platform) -> Descriptor:
    """The manifest to run on ``platform``: ``root`` itself, or the one that the index ``root`` lists for it.

    An image without a variant runs on each variant. What is built upon or archived is chosen by stricter or looser
    rules, in ``packager/bases/find.py`` and ``edgepack/oci/archive/write.py``.

    Raises ``IncompatibleError`` and ``NotFoundError``.
    """
    while root.media_type in mediatypes.INDEXES:
        root = children(source, root, platform)[0]
    children(source, root, platform)
    return root


def children(source: BlobSource, item: Descriptor, platform: Platform | None = None) -> tuple[Descriptor, ...]:
    """What the index or manifest ``item`` names; nothing for other blobs, which are not read.

    With a ``platform``, of an index only the manifests for it. Raises as ``needs`` does, and ``NotFoundError``.
    """
    if item.media_type in mediatypes.INDEXES:
        index = Index.from_bytes(read_verified(source, item), f"index {item.digest}", implied=item.media_type)
        _check_type(item, index.media_type)
        return index.manifests if platform is None else _matching(index, item, platform)
    if item.media_type in mediatypes.MANIFESTS:
        manifest = Manifest.from_bytes(read_verified(source, item), f"manifest {item.digest}", implied=item.media_type)
        _check_type(item, manifest.media_type)
        if platform is not None and manifest.config.media_type in mediatypes.CONFIGS:
            _check_platform(source, item, manifest, platform)
        return manifest.blobs
    return ()


def _check_type(item: Descriptor, media_type: str) -> None:
    # The same bytes read as an index here and as a manifest elsewhere would be two different images.
    if media_type != item.media_type:
        raise VerificationError(f"is {item.media_type} by its descriptor and {media_type} by itself", where=item.digest)


def _matching(index: Index, item: Descriptor, platform: Platform) -> tuple[Descriptor, ...]:
    exact = tuple(one for one in index.manifests if one.platform == platform)
    found = exact or tuple(
        one for one in index.manifests if one.platform is not None and runs_on(one.platform, platform)
    )
    if not found:
        there = ", ".join(sorted(str(one.platform) for one in index.manifests if one.platform is not None))
        raise IncompatibleError(
            f"has nothing for {platform}, only for {there or 'no platform that it names'}",
            where=f"image {item.digest}",
            hint=f"build it with --platform {platform}",
        )
    return found


def _check_platform(source: BlobSource, item: Descriptor, manifest: Manifest, platform: Platform) -> None:
    where = f"image configuration {manifest.config.digest}"
    try:
        value = parse_object(read_verified(source, manifest.config), where)
    except NotFoundError:  # the caller learns that it is missing when it looks for it
        return
    try:
        found = Platform.from_json(value)
    except (InvalidReferenceError, TypeError, AttributeError) as error:
        raise VerificationError("names no platform", where=where) from error
    if not runs_on(found, platform):
        raise IncompatibleError(
            f"is for {found} and not for {platform}",
            where=f"image {item.digest}",
            hint=f"build it with --platform {platform}",
        )


def runs_on(image: Platform, machine: Platform) -> bool:
    """Whether a machine runs such images; a variant that is not named fits every other."""
    if (image.os, image.architecture) != (machine.os, machine.architecture):
        return False
    return image.variant == machine.variant or None in (image.variant, machine.variant)
