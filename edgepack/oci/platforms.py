"""Which image of an index is for a platform: the one owner of that question, with its rules as arguments.

Beside images an index lists what builders attach to them, as BuildKit does for ``unknown/unknown``, artifacts, and
other indexes. An entry need not name its platform (image-index.md): the image's configuration has it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgepack.documents import parse_foreign
from edgepack.errors import IncompatibleError, InvalidReferenceError, NotFoundError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.graph import children, read_manifest, visit
from edgepack.oci.manifest import Manifest
from edgepack.oci.sources import BlobSource, read_verified

# Whether an image for the first platform is good for the second.
Rule = Callable[[Platform, Platform], bool]


@dataclass(frozen=True)
class PlatformImage:
    """An image, the platform that it is for, and the indexes that lead to it, outermost first."""

    descriptor: Descriptor
    platform: Platform
    indexes: tuple[Descriptor, ...] = ()


def same(image: Platform, wanted: Platform) -> bool:
    """The rule for what is built upon: the wheels above a base are chosen for one variant."""
    return image == wanted


def runs_on(image: Platform, machine: Platform) -> bool:
    """The rule for what is run: a variant that is not named fits every other, and a lower one fits a higher one."""
    if (image.os, image.architecture) != (machine.os, machine.architecture):
        return False
    if image.variant == machine.variant or None in (image.variant, machine.variant):
        return True
    levels = (_level(image), _level(machine))
    return 0 not in levels and levels[0] <= levels[1]


def _level(platform: Platform) -> int:
    """The number of a variant such as ``v7``; 0 for others."""
    number = (platform.variant or "").removeprefix("v")
    return int(number) if number.isdecimal() else 0


def choose(found: Sequence[PlatformImage], platform: Platform, rule: Rule) -> PlatformImage | None:
    """The image for exactly ``platform``, or else the nearest that fits it by ``rule``; ``None`` when there is none."""
    exact = [one for one in found if one.platform == platform]
    # Of several variants a machine runs the highest; one that does not say its own is given the lowest.
    order = sorted(found, key=lambda one: _level(one.platform), reverse=platform.variant is not None)
    return next(iter([*exact, *(one for one in order if rule(one.platform, platform))]), None)


def platform_images(source: BlobSource, root: Descriptor) -> tuple[PlatformImage, ...]:
    """The images that ``root`` names, itself or those of an index; without artifacts and what has no platform.

    Entries that say no platform and are not in ``source`` are left out. Raises ``VerificationError`` for indexes nested
    deeper than ``Limits.index_depth``, and what ``source`` raises.
    """
    return tuple(_below(source, root, (), set()))


def _below(
    source: BlobSource, item: Descriptor, indexes: tuple[Descriptor, ...], seen: set[tuple[Digest, int, str]]
) -> Iterator[PlatformImage]:
    if item.media_type in mediatypes.MANIFESTS:
        platform = _platform(source, item)
        if platform is not None:
            yield PlatformImage(item, platform, indexes)
    name = (item.digest, item.size, item.media_type)
    if item.media_type not in mediatypes.INDEXES or name in seen:
        return
    seen.add(name)
    if len(indexes) >= LIMITS.index_depth:
        raise VerificationError(f"indexes are nested more than {LIMITS.index_depth} deep", where=f"index {item.digest}")
    try:
        listed = children(source, item)
    except NotFoundError:
        return
    for child in listed:
        yield from _below(source, child, (*indexes, item), seen)


def _platform(source: BlobSource, item: Descriptor) -> Platform | None:
    if item.artifact_type is not None and item.artifact_type not in mediatypes.CONFIGS:
        return None
    found = item.platform
    if found is None:
        try:
            found = _configured(source, read_manifest(source, item))
        except NotFoundError:
            return None
    return None if found is None or found.os == "unknown" else found


def _configured(source: BlobSource, manifest: Manifest) -> Platform | None:
    """The platform that the configuration names; ``None`` for an artifact, or where it names none."""
    if manifest.config.media_type not in mediatypes.CONFIGS:
        return None
    value = parse_foreign(read_verified(source, manifest.config), f"image configuration {manifest.config.digest}")
    try:
        return Platform.from_json(value)
    except (InvalidReferenceError, TypeError, AttributeError):
        return None


def platform_manifest(source: BlobSource, root: Descriptor, platform: Platform) -> Descriptor:
    """The manifest to run on ``platform``: ``root`` itself, or the one that the index ``root`` lists for it.

    Raises ``IncompatibleError`` and ``NotFoundError``.
    """
    if root.media_type in mediatypes.INDEXES:
        children(source, root)  # raises: absent
        root = _to_run(source, root, platform).descriptor
    _check_platform(source, root, read_manifest(source, root), platform)
    return root


def needs(source: BlobSource, root: Descriptor, platform: Platform | None = None) -> Iterator[Descriptor]:
    """``root`` and everything that it needs, each once, what names before what is named, so ``root`` comes first.

    With a ``platform``, of an index only the image to run on it. An index or manifest that ``source`` does not have is
    yielded without what it names. Raises ``IncompatibleError`` when there is nothing for ``platform``, and
    ``VerificationError`` or ``InvalidDocumentError`` as ``graph.walk`` does.
    """

    def below(item: Descriptor) -> tuple[Descriptor, ...]:
        try:
            found = children(source, item)
        except NotFoundError:
            return ()
        if platform is None:
            return found
        if item.media_type in mediatypes.INDEXES:
            chosen = _to_run(source, item, platform)
            return (*chosen.indexes, chosen.descriptor)[1:2]
        if item.media_type in mediatypes.MANIFESTS:
            _check_platform(source, item, read_manifest(source, item), platform)
        return found

    return (item for item, finished in visit(root, below) if not finished)


def _to_run(source: BlobSource, index: Descriptor, platform: Platform) -> PlatformImage:
    found = platform_images(source, index)
    chosen = choose(found, platform, runs_on)
    if chosen is None:
        there = ", ".join(sorted({str(one.platform) for one in found}))
        raise IncompatibleError(
            f"has nothing for {platform}, only for {there or 'no platform that it names'}",
            where=f"image {index.digest}",
            hint=f"build it with --platform {platform}",
        )
    return chosen


def _check_platform(source: BlobSource, item: Descriptor, manifest: Manifest, platform: Platform) -> None:
    if manifest.config.media_type not in mediatypes.CONFIGS:
        return
    try:
        found = _configured(source, manifest)
    except NotFoundError:  # the caller learns that it is missing when it looks for it
        return
    if found is None:
        raise VerificationError("names no platform", where=f"image configuration {manifest.config.digest}")
    if not runs_on(found, platform):
        raise IncompatibleError(
            f"is for {found} and not for {platform}",
            where=f"image {item.digest}",
            hint=f"build it with --platform {platform}",
        )
