"""A bundle as a place of blobs that are read in any order: a file on a stick, of which perhaps only a part was copied.

Where a blob is follows from the list at the head of the tar, so that nothing else is read to find it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from edgepack.bundle.listing import PAYLOAD_TYPE, Contents
from edgepack.bundle.tar import INDEX, LAYOUT, LIST, TarReader, blob_name
from edgepack.documents import parse_canonical
from edgepack.errors import CutShortError, NotFoundError, SizeMismatchError
from edgepack.host.inputs import open_regular
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.tar.header import BLOCK, padding, tar_header
from edgepack.oci.tar.index import Span
from edgepack.signing import envelope
from edgepack.signing.keys import PublicKey


class BundleBlobs:
    """The blobs of the bundle at ``path``; several threads may read them at once. Use as a context manager.

    Its list must be signed by one of the ``trusted`` keys; ``allow_unsigned`` takes one without any signature too.
    Entering raises what ``edgepack.bundle.read.import_bundle`` raises for a list that is not so.
    """

    concurrent = True

    def __init__(self, path: Path, trusted: Collection[PublicKey], *, allow_unsigned: bool = False) -> None:
        self.path = path
        self._trusted = trusted
        self._allow_unsigned = allow_unsigned

    def __enter__(self) -> Self:
        self._file = open_regular(self.path)
        try:
            data = TarReader(self._file, self.path).first(LIST, LIMITS.bundle_list_bytes)
            self.contents = self._verified(data)
        except BaseException:
            self._file.close()
            raise
        self._places = _places(self.contents, len(data))
        return self

    def _verified(self, data: bytes) -> Contents:
        found = envelope.open_unsigned(data, PAYLOAD_TYPE, where=self.path) if self._allow_unsigned else None
        found = found or envelope.verify(data, PAYLOAD_TYPE, self._trusted, where=self.path)
        parse_canonical(data, LIST)
        return Contents.from_bytes(found.payload, self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob from ``offset`` on, not verified.

        Raises ``NotFoundError`` for one that is not in the tar, ``CutShortError`` where the file ends before it does.
        """
        start, size = self._places.get(descriptor.digest, (0, -1))
        if size < 0:
            raise NotFoundError(f"has no blob {descriptor.digest}", where=self.path)
        if size != descriptor.size:
            raise SizeMismatchError(
                f"has {size} bytes and the descriptor says {descriptor.size}", where=f"blob {descriptor.digest}"
            )
        if os.fstat(self._file.fileno()).st_size < start + size:
            raise CutShortError(f"is cut short before the end of {descriptor.digest}", where=self.path)
        span = Span(self._file.fileno(), start + offset, max(0, size - offset))
        with io.BufferedReader(span, LIMITS.chunk_bytes) as stream:
            yield stream

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject`` that the list names."""
        return tuple(
            one.descriptor
            for one in self.contents.referrers
            if one.subject == subject and artifact_type in (None, one.descriptor.artifact_type)
        )


def _places(contents: Contents, list_bytes: int) -> dict[Digest, tuple[int, int]]:
    """Where the content of each blob begins, and its size."""
    at = BLOCK + list_bytes + len(padding(list_bytes))
    for name, size in ((LAYOUT[0], len(LAYOUT[1])), (INDEX, len(contents.layout_index()))):
        at += len(tar_header(name, size=size)) + size + len(padding(size))
    found = {}
    for blob in contents.blobs:
        at += len(tar_header(blob_name(blob.digest), size=blob.size))
        found[blob.digest] = (at, blob.size)
        at += blob.size + len(padding(blob.size))
    return found
