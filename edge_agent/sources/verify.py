"""Whether an image that is here is what its name says, all of it, and who signed it; needs no network."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgepack.errors import DigestMismatchError, NotFoundError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.platforms import needs, platform_manifest
from edgepack.oci.store import Store
from edgepack.signing.keys import PublicKey
from edgepack.signing.statement import verify_image

AGAIN = "bring it again with: edge-agent pull, or edge-agent import"


@dataclass(frozen=True)
class Sound:
    """An image of which every blob was read: how many there are, their bytes, and the trusted keys that signed it."""

    image: Digest
    key_ids: tuple[str, ...]
    blobs: int
    bytes: int


def verify(store: Store, image: Digest, trusted: Collection[PublicKey], *, allow_unsigned: bool = False) -> Sound:
    """Read all of ``image`` that this platform needs, and its statements.

    A damaged blob is removed, so that bringing the image again replaces it. Raises ``NotFoundError`` for an image that
    is not here or not whole, ``DigestMismatchError`` for one that is damaged, ``SignatureError`` for one that no
    trusted key signed, unless nobody has and ``allow_unsigned``, and ``IncompatibleError`` for another platform's.
    """
    where = f"image {image}"
    if not store.has_digest(image):
        raise NotFoundError("is not on this device", where=where, hint=AGAIN)
    root = store.describe(image)
    platform = Platform.host()
    found = tuple(needs(store, root, platform))
    platform_manifest(store, root, platform)  # raises: absent, or for another platform
    absent = [one for one in found if not store.has_digest(one.digest)]
    damaged = [one for one in found if one not in absent and not store.check(one)]
    if damaged:
        raise DigestMismatchError(
            f"is damaged on the disk: {', '.join(str(one.digest) for one in damaged)}", where=where, hint=AGAIN
        )
    if absent:
        raise NotFoundError(
            f"is not whole: {', '.join(str(one.digest) for one in absent)} missing", where=where, hint=AGAIN
        )
    keys: tuple[str, ...] = ()
    if not allow_unsigned or store.referrers(image, mediatypes.STATEMENT_ARTIFACT):
        keys = verify_image(store, image, trusted).key_ids
    return Sound(image, keys, len(found), sum(one.size for one in found))
