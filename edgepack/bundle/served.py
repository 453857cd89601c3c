"""Bundles as what a registry serves: their images by tag and digest, straight from the files that bring them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from edgepack.bundle.blobs import BundleSet
from edgepack.errors import NotFoundError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index
from edgepack.oci.sources import read_verified


class ServedBundles:
    """The images of ``bundles``, which are open; of a name that several have, the first one's. Nothing is written."""

    def __init__(self, bundles: Sequence[BundleSet]) -> None:
        self._bundles = bundles
        self._known: dict[Digest, Descriptor] = {}
        self._tags: dict[str, Descriptor] = {}
        for one in bundles:
            named = {image.name: image.descriptor for image in one.contents.images}
            for blob in (*named.values(), *(item.descriptor for item in one.contents.referrers), *one.contents.blobs):
                self._known.setdefault(blob.digest, blob)
            for name, image in named.items():
                self._tags.setdefault(name, image.with_annotations({mediatypes.REF_NAME: name}))

    def index(self) -> Index:
        """The images by their tags."""
        return Index(tuple(image for _, image in sorted(self._tags.items())))

    def tags(self) -> dict[str, Descriptor]:
        """Every tag with its image."""
        return dict(self._tags)

    def resolve(self, tag: str) -> Descriptor:
        """What ``tag`` names; raises ``NotFoundError``."""
        if tag not in self._tags:
            raise NotFoundError(f"tag {tag!r} not found")
        return self._tags[tag]

    def describe(self, digest: Digest) -> Descriptor:
        """The descriptor of what is known by its digest; raises ``NotFoundError``."""
        if digest not in self._known:
            raise NotFoundError(f"{digest} is in none of the bundles")
        return self._known[digest]

    def size_of(self, digest: Digest) -> int | None:
        """How long the blob is; ``None`` when it is not here."""
        found = self._known.get(digest)
        return None if found is None else found.size

    def read(self, descriptor: Descriptor) -> bytes:
        """The verified bytes of a manifest; raises ``NotFoundError`` and ``VerificationError``."""
        return read_verified(self, descriptor)

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob from ``offset`` on, not verified; raises ``NotFoundError``."""
        holders = [one for one in self._bundles if one.has(descriptor)]
        if not holders:
            raise NotFoundError(f"{descriptor.digest} is in none of the bundles")
        with ExitStack() as stack:
            yield stack.enter_context(holders[0].open(descriptor, offset))

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``."""
        found = [item for one in self._bundles for item in one.referrers(subject, artifact_type)]
        return tuple({item.digest: item for item in found}.values())
