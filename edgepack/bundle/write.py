"""Writing a bundle: ``write_bundle(store, tags, path)``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from edgepack.bundle.listing import (
    PAYLOAD_TYPE,
    Contents,
    NamedImage,
    Referrer,
    bare,
    checked_name,
    docker_manifest,
    is_archive,
    is_head,
)
from edgepack.bundle.receipt import Receipt
from edgepack.bundle.tar import DOCKER, INDEX, LAYOUT, LIST, TarWriter, blob_name
from edgepack.errors import NotFoundError, UsageError
from edgepack.host.files import BY_UMASK, replacing
from edgepack.limits import LIMITS
from edgepack.nearness import tag_meant
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.platforms import choose, needs, platform_images, runs_on
from edgepack.oci.store import Store
from edgepack.signing import envelope
from edgepack.signing.keys import PrivateKey
from edgepack.signing.statement import ensure_signed

_DOCUMENTS = mediatypes.INDEXES | mediatypes.MANIFESTS


@dataclass(frozen=True)
class BundleReport:
    """What a bundle has: ``size`` is the files', ``bytes`` that of its blobs, ``omitted_bytes`` what it saved."""

    path: Path
    size: int
    blobs: int
    bytes: int
    omitted_bytes: int
    parts: tuple[Path, ...] = ()
    """Its files: one, or the parts that were written."""


def write_bundle(
    store: Store,
    tags: Collection[str],
    path: Path,
    *,
    key: PrivateKey | None,
    receipt: Receipt | None = None,
    platform: Platform | None = None,
    docker: bool = False,
    on_blob: Callable[[Descriptor, bool], None] | None = None,
) -> BundleReport:
    """Write the images that ``tags`` name, with all that is attached to them, to one tar at ``path``.

    With a ``key`` the list is signed, and each image gets a statement by it unless it has one; without, the bundle is
    unsigned. With a ``platform`` only the images for it go in; with a ``receipt`` those for its platform, and nothing
    that it names. With ``docker`` a bundle of one whole image is an archive for ``docker load`` too. ``on_blob`` is
    called with each blob and whether it goes in. Equal stores, tags, keys, platforms and receipts give equal bytes.
    ``path`` appears whole or not at all.

    Raises ``NotFoundError`` for a tag, blob or folder that is not there, ``UsageError`` when an image has nothing for
    the ``platform``, or the receipt is of another one, ``IncompatibleError`` when an image has nothing for the
    receipt's, ``VerificationError`` for a damaged blob, ``NoSpaceError``.
    """
    contents = plan_bundle(store, tags, path, key=key, receipt=receipt, platform=platform)
    if docker:
        contents = for_docker(contents)
    signed = envelope.sign(contents.to_bytes(), PAYLOAD_TYPE, *([] if key is None else [key]))
    with replacing(path, BY_UMASK) as file:
        size = write_tar(file, contents, signed, store, on_blob)
    return report_of(contents, [path], size)


def for_docker(contents: Contents) -> Contents:
    """``contents`` as an archive that ``docker load`` takes, where that can be."""
    return replace(contents, docker=True) if is_archive(contents) else contents


def plan_bundle(
    store: Store,
    tags: Collection[str],
    where: object,
    *,
    key: PrivateKey | None,
    receipt: Receipt | None = None,
    platform: Platform | None = None,
) -> Contents:
    """What a bundle of ``tags`` brings, each image signed with ``key``; raises as ``write_bundle`` does."""
    images = _images(store, tags)
    if platform is not None:
        _require_platform(store, images, platform, receipt)
    elif receipt is not None:
        platform = receipt.platform
    if key is not None:
        for image in images:
            ensure_signed(store, image.descriptor, image.name, key)
    contents = _contents(store, images, platform, receipt)
    contents.check_limits(LIMITS, where)
    return contents


def write_tar(
    file: BinaryIO,
    contents: Contents,
    signed: bytes,
    store: Store,
    on_blob: Callable[[Descriptor, bool], None] | None = None,
) -> int:
    """Write the tar of a bundle in one part, whose list is ``signed``; how many bytes it has."""
    tar = TarWriter(file)
    for name, data in ((LIST, signed), LAYOUT, (INDEX, contents.layout_index())):
        tar.add(name, len(data), [data])
    for blob in contents.omitted:
        report_blob(on_blob, blob, False)
    for blob in contents.blobs:
        report_blob(on_blob, blob, True)
        tar.add(blob_name(blob.digest), blob.size, verified(store, blob))
    if contents.docker:
        data = docker_manifest(contents, store.manifest(contents.images[0].descriptor))
        tar.add(DOCKER, len(data), [data])
    tar.end()
    return tar.size


def report_of(contents: Contents, paths: Sequence[Path], size: int) -> BundleReport:
    """What was written to ``paths``, of ``size`` bytes together."""
    return BundleReport(
        paths[0], size, len(contents.blobs), _total(contents.blobs), _total(contents.omitted), tuple(paths)
    )


def _images(store: Store, tags: Collection[str]) -> tuple[NamedImage, ...]:
    if not tags:
        raise UsageError("no tag is given", hint="name the images that the bundle is to bring")
    known = store.tags()
    absent = sorted(set(tags) - known.keys())
    if absent:
        raise NotFoundError(
            f"no image is tagged {', '.join(absent)}",
            where=store.root,
            hint=tag_meant(absent[0], known, "see: edgepack package list"),
        )
    return tuple(NamedImage(checked_name(tag), _without_tag(known[tag])) for tag in sorted(set(tags)))


def _without_tag(image: Descriptor) -> Descriptor:
    others = {name: text for name, text in image.annotations.items() if name != mediatypes.REF_NAME}
    return Descriptor(image.media_type, image.digest, image.size, others, image.platform, image.artifact_type)


def _require_platform(
    store: Store, images: tuple[NamedImage, ...], platform: Platform, receipt: Receipt | None
) -> None:
    for image in images:
        found = platform_images(store, image.descriptor)
        if choose(found, platform, runs_on) is None:
            have = ", ".join(str(one.platform) for one in found) or "no platform"
            raise UsageError(
                f"is for {have}, not for {platform}", where=f"image {image.name}", hint="give one of these"
            )
    if receipt is not None and receipt.platform is not None and not runs_on(platform, receipt.platform):
        raise UsageError(
            f"the receipt is of a device for {receipt.platform}, not for {platform}", where=f"device {receipt.device}",
            hint="leave the platform out: a receipt says it",
        )  # fmt: skip


def _contents(
    store: Store, images: tuple[NamedImage, ...], platform: Platform | None, receipt: Receipt | None
) -> Contents:
    needed: dict[Digest, Descriptor] = {}
    for image in images:
        needed.update((item.digest, bare(item)) for item in needs(store, image.descriptor, platform))
    referrers = []
    for subject in [item.digest for item in needed.values() if item.media_type in _DOCUMENTS]:
        for artifact in store.referrers(subject):
            referrers.append(Referrer(subject, artifact))
            needed.update((item.digest, bare(item)) for item in needs(store, artifact))
    held = frozenset() if receipt is None else receipt.blobs
    # A manifest must be here even when the receiver holds it: what it needs is not known otherwise.
    _check_present(store, [one for one in needed.values() if one.digest not in held or one.media_type in _DOCUMENTS])
    brought = [one for one in needed.values() if one.digest not in held]
    return Contents(
        images=images,
        referrers=tuple(referrers),
        blobs=(*filter(is_head, brought), *(one for one in brought if not is_head(one))),
        omitted=tuple(one for one in needed.values() if one.digest in held),
        platform=platform,
    )


def _check_present(store: Store, blobs: Iterable[Descriptor]) -> None:
    missing = [str(blob.digest) for blob in blobs if not store.has(blob)]
    if missing:
        raise NotFoundError(
            f"these blobs of the images are missing: {', '.join(missing)}",
            where=store.root,
            hint="pull or build the image again",
        )


def verified(store: Store, blob: Descriptor) -> Iterator[bytes]:
    """The bytes of ``blob``; raises ``VerificationError`` at the end when they are not what it is named."""
    with store.open(blob) as file:
        reader = VerifyingReader(file, blob.digest, blob.size)
        while chunk := reader.read(LIMITS.chunk_bytes):
            yield chunk


def _total(blobs: Iterable[Descriptor]) -> int:
    return sum(blob.size for blob in blobs)


def report_blob(on_blob: Callable[[Descriptor, bool], None] | None, blob: Descriptor, moves: bool) -> None:
    """Tell ``on_blob``, if there is one, of a blob and whether it goes in."""
    if on_blob is not None:
        on_blob(blob, moves)
