"""What an image needs: the blobs below it, for every platform or for one."""

from __future__ import annotations

from collections.abc import Iterator

from edgepack.errors import IncompatibleError, InvalidReferenceError, NotFoundError, VerificationError
from edgepack.oci import mediatypes
from edgepack.oci.copy import read_verified
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.manifest import Index, Manifest, parse_object
from edgepack.oci.sources import BlobSource


def needs(source: BlobSource, root: Descriptor, platform: Platform | None = None) -> Iterator[Descriptor]:
    """``root`` and everything below it, each once, what names before what is named.

    With a ``platform``, of an index only the manifests for it. An index or manifest that ``source`` does not have is
    yielded and not looked into. Raises ``IncompatibleError`` when there is nothing for ``platform``, and
    ``VerificationError`` or ``InvalidDocumentError`` for a document that is not what its descriptor says.
    """
    seen = set()
    waiting = [root]  # a stack and not recursion: how deep indexes nest is the sender's choice
    while waiting:
        item = waiting.pop()
        # By size and type too: a second descriptor that lies about the blob must not hide behind the first.
        name = (item.digest, item.size, item.media_type)
        if name in seen:
            continue
        seen.add(name)
        yield item
        try:
            children = _children(source, item, platform)
        except NotFoundError:
            continue
        waiting.extend(reversed(children))


def platform_manifest(source: BlobSource, root: Descriptor, platform: Platform) -> Descriptor:
    """The manifest to run on ``platform``: ``root`` itself, or the one that the index ``root`` lists for it.

    Raises ``IncompatibleError`` and ``NotFoundError``.
    """
    while root.media_type in mediatypes.INDEXES:
        root = _children(source, root, platform)[0]
    _children(source, root, platform)
    return root


def _children(source: BlobSource, item: Descriptor, platform: Platform | None) -> tuple[Descriptor, ...]:
    if item.media_type in mediatypes.INDEXES:
        index = Index.from_bytes(read_verified(source, item), f"index {item.digest}")
        _check_type(item, index.media_type)
        return index.manifests if platform is None else _matching(index, item, platform)
    if item.media_type in mediatypes.MANIFESTS:
        manifest = Manifest.from_bytes(read_verified(source, item), f"manifest {item.digest}")
        _check_type(item, manifest.media_type)
        if platform is not None and manifest.config.media_type in mediatypes.CONFIGS:
            _check_platform(source, item, manifest, platform)
        return manifest.blobs
    return ()


def _check_type(item: Descriptor, media_type: str) -> None:
    # The same bytes read as an index here and as a manifest elsewhere would be two different images.
    if media_type != item.media_type:
        raise VerificationError(f"is announced as {item.media_type} and says {media_type}", where=item.digest)


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
