"""The small blobs of an image, read before its layers move: from the store, or else from a place, and then kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.sources import BlobSource, read_verified
from edgepack.oci.store import Store


class Documents:
    """A blob source of documents over ``store``; ``ask`` gives the verified bytes of those that it does not have."""

    def __init__(self, store: Store, ask: Callable[[Descriptor], bytes]) -> None:
        self._store = store
        self._ask = ask
        self.kept: dict[Digest, bytes] = {}

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a document from ``offset`` on; a damaged one in the store is removed, and asked for."""
        if descriptor.digest not in self.kept:
            if self._store.check(descriptor):
                with self._store.open(descriptor, offset) as stream:
                    yield stream
                return
            self.kept[descriptor.digest] = self._ask(descriptor)
        yield io.BytesIO(self.kept[descriptor.digest][offset:])


class OneArtifact:
    """A place as if it had one artifact attached to an image, of which what is read is kept in ``documents``."""

    def __init__(self, place: BlobSource, artifact: Descriptor, kept: dict[Digest, bytes]) -> None:
        self._place = place
        self._artifact = artifact
        self._kept = kept

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifact."""
        return (self._artifact,)

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The verified bytes of a small blob."""
        if descriptor.digest not in self._kept:
            self._kept[descriptor.digest] = read_verified(self._place, descriptor)
        yield io.BytesIO(self._kept[descriptor.digest][offset:])
