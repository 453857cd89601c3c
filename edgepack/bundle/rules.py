"""The rules by which a bundle's blobs are imported. They read manifests only, and write nothing.

The list has been verified before (by ``edgepack.signing.envelope``), and each image's statement (by
``edgepack.signing.rules``). Then:

1. The bundle is for this platform, and each image has something for it (a package for another processor).
2. Each blob is one that an image or artifact of the list needs: nothing rides along (a smuggled file).
3. Each blob is announced with the size that its manifest gives (a blob that grows on the way).
4. Each artifact says itself that it is attached to what the list says, which the bundle brings, and what kind of
   artifact it is (a report or statement pinned to another image).
5. What is needed is in the tar or in the store already (half an image).

Breaches raise ``IncompatibleError`` (1) and ``VerificationError`` (2 to 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgepack.bundle.listing import Contents, Referrer
from edgepack.errors import IncompatibleError, NotFoundError, SizeMismatchError, VerificationError
from edgepack.oci.attachments import kind_of
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.platforms import needs, runs_on
from edgepack.oci.sources import BlobSource, read_verified


@dataclass(frozen=True)
class Plan:
    """What this device takes from a bundle: blobs, what names before what is named, and attachments."""

    needed: tuple[Descriptor, ...]
    referrers: tuple[Referrer, ...]


def plan(
    contents: Contents, source: BlobSource, platform: Platform | None, held: Callable[[Descriptor], bool], where: object
) -> Plan:
    """Check rules 1 to 5; ``source`` yields the manifests of tar and store, ``held`` says what is in the store."""
    if platform is not None and contents.platform is not None and not runs_on(contents.platform, platform):
        raise IncompatibleError(
            f"is for {contents.platform} and not for {platform}",
            where=where,
            hint="make one with this device's receipt",
        )
    brought = _closure(contents, source, contents.platform)
    _check_listed(contents, brought.needed, where)
    taken = brought if platform is None else _closure(contents, source, contents.platform or platform)
    there = {blob.digest for blob in contents.blobs}
    missing = [one.digest for one in taken.needed if one.digest not in there and not held(one)]
    if missing:
        raise VerificationError(
            f"lacks {', '.join(str(one) for one in missing)}, which this device does not hold",
            where=where,
            hint="make the bundle with a fresh receipt of this device",
        )
    for referrer in taken.referrers:
        _check_referrer(referrer, source)
    return taken


def _closure(contents: Contents, source: BlobSource, platform: Platform | None) -> Plan:
    found: dict[tuple[Digest, int], Descriptor] = {}

    def add(items: Iterable[Descriptor]) -> None:
        found.update(((item.digest, item.size), item) for item in items)

    for image in contents.images:
        add(needs(source, image.descriptor, platform))
    subjects = {digest for digest, _ in found}
    referrers = tuple(one for one in contents.referrers if one.subject in subjects)
    for referrer in referrers:
        add(needs(source, referrer.descriptor))
    return Plan(tuple(found.values()), referrers)


def _check_listed(contents: Contents, needed: tuple[Descriptor, ...], where: object) -> None:
    sizes = {blob.digest: blob.size for blob in (*contents.blobs, *contents.omitted)}
    for one in needed:
        if sizes.get(one.digest, one.size) != one.size:
            raise SizeMismatchError(
                f"is listed with {sizes[one.digest]} bytes, and a manifest says {one.size}", where=one.digest
            )
    extra = sizes.keys() - {one.digest for one in needed}
    if extra:
        names = ", ".join(str(digest) for digest in sorted(extra))
        raise VerificationError(f"lists {names}, which none of its images needs", where=where)


def _check_referrer(referrer: Referrer, source: BlobSource) -> None:
    where = f"artifact {referrer.descriptor.digest}"
    try:
        manifest = Manifest.from_bytes(read_verified(source, referrer.descriptor), where)
    except NotFoundError as error:
        raise VerificationError("cannot be read", where=where) from error
    if manifest.subject is None or manifest.subject.digest != referrer.subject:
        raise VerificationError(f"is not attached to {referrer.subject}, as its list says", where=where)
    if kind_of(manifest) != referrer.descriptor.artifact_type:
        raise VerificationError(f"has the artifact type {kind_of(manifest)}, and its list says another", where=where)
