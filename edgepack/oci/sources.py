"""Places that yield or take blobs: a store, a registry, an archive, a daemon."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from edgepack.errors import TooLargeError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import VerifyingReader


class BlobSource(Protocol):
    """Where blobs come from."""

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of a blob, manifest or index from ``offset`` on.

        They need not be verified: the reader hashes them. Raises ``NotFoundError``.
        """


class BlobSink(Protocol):
    """Where blobs go."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is already present."""

    def put(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Copy the blob from ``source``, verifying it."""


def takes_threads(place: object) -> bool:
    """Whether several threads may use ``place`` for blobs at once; it says so by ``concurrent``."""
    return getattr(place, "concurrent", False) is True


def read_verified(source: BlobSource, descriptor: Descriptor, limit: int = LIMITS.manifest_bytes) -> bytes:
    """The bytes of a small blob, verified.

    Raises ``TooLargeError`` for one of more than ``limit`` bytes, ``VerificationError`` and ``NotFoundError``.
    """
    if descriptor.size > limit:
        raise TooLargeError(f"is {descriptor.size} bytes; at most {limit} are read", where=descriptor.digest)
    with source.open(descriptor) as stream:
        reader, parts = VerifyingReader(stream, descriptor.digest, descriptor.size), []
        while chunk := reader.read(LIMITS.chunk_bytes):
            parts.append(chunk)
    return b"".join(parts)
