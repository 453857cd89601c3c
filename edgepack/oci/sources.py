"""Places that yield or take blobs: a store, a registry, an archive, a daemon."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from edgepack.oci.descriptor import Descriptor


class BlobSource(Protocol):
    """Where blobs come from."""

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of a blob, manifest or index from ``offset`` on.

        They need not be verified: whoever takes them hashes them. Raises ``NotFoundError``.
        """


class BlobSink(Protocol):
    """Where blobs go."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there already."""

    def put(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Take the blob from ``source``, verifying it."""
