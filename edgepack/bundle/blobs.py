"""A bundle as a place of blobs that are read in any order: files on sticks, of which perhaps only some were copied.

Where a blob is follows from the list at the head of a tar, so that nothing else is read to find it. What is read is not
verified here: its reader hashes it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from edgepack.bundle.listing import PAYLOAD_TYPE, Contents
from edgepack.bundle.parts import PartList, Piece, Wanted, identity, numbers, whole
from edgepack.bundle.tar import INDEX, LAYOUT, LIST, TarReader
from edgepack.documents import parse_canonical
from edgepack.errors import CutShortError, MissingPartsError, NotFoundError, SizeMismatchError
from edgepack.host.inputs import open_regular
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.tar.header import BLOCK, padding, tar_header
from edgepack.signing import envelope
from edgepack.signing.keys import PublicKey


@dataclass(frozen=True)
class _Place:
    """Where in the file ``fd``, called ``path``, a piece begins."""

    fd: int
    path: Path
    piece: Piece
    start: int


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
        self.key_ids: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self._file = open_regular(self.path)
        try:
            data = TarReader(self._file, self.path).first(LIST, LIMITS.bundle_list_bytes)
            self.list = self._verified(data)
        except BaseException:
            self._file.close()
            raise
        self.contents = self.list.contents
        self.places = tuple(_places(self.list, len(data), self._file.fileno(), self.path))
        self._set = BundleSet([self])
        return self

    def _verified(self, data: bytes) -> PartList:
        found = envelope.open_unsigned(data, PAYLOAD_TYPE, where=self.path) if self._allow_unsigned else None
        found = found or envelope.verify(data, PAYLOAD_TYPE, self._trusted, where=self.path)
        parse_canonical(data, LIST)
        self.key_ids = found.key_ids
        return PartList.from_bytes(found.payload, self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """As ``BundleSet.open``, of this file alone."""
        with self._set.open(descriptor, offset) as stream:
            yield stream

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject`` that the list names."""
        return referrers_in(self.contents, subject, artifact_type)


class BundleSet:
    """The blobs of one bundle, as far as its ``files``, which are open and of the same bundle, have them."""

    concurrent = True

    def __init__(self, files: Sequence[BundleBlobs]) -> None:
        self.contents = files[0].contents
        self.files = tuple(files)
        self.path = files[0].path
        self._places: dict[Digest, dict[int, _Place]] = {}
        for file in files:
            for place in file.places:
                self._places.setdefault(place.piece.blob.digest, {}).setdefault(place.piece.offset, place)

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of the parts that are not here."""
        part = self.files[0].list.part
        here = {one.list.part.number for one in self.files if one.list.part is not None}
        return () if part is None else tuple(number for number in range(1, part.of + 1) if number not in here)

    @property
    def where(self) -> str:
        """What to call it in a message: its file, or the folder of its parts."""
        return str(self.path if self.files[0].list.part is None else self.path.parent)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether all of the blob is here, with the size that the descriptor says."""
        found = self._places.get(descriptor.digest, {}).values()
        return bool(found) and sum(one.piece.size for one in found) == descriptor.size

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob from ``offset`` on, not verified.

        Raises ``NotFoundError`` for one that is not in these files, ``CutShortError`` where a file ends before it does.
        """
        found = [one for _, one in sorted(self._places.get(descriptor.digest, {}).items())]
        size = sum(one.piece.size for one in found)
        if not found or (size < found[0].piece.blob.size):
            part = self.files[0].list.part
            if part is not None and self.missing:
                raise MissingPartsError(
                    f"has no blob {descriptor.digest}: it lacks {numbers(self.missing)} of {part.of}", where=self.where,
                    wanted=Wanted.of_parts(self.contents, part, self.missing).to_bytes(),
                )  # fmt: skip
            raise NotFoundError(f"has no blob {descriptor.digest}", where=self.where)
        if size != descriptor.size:
            raise SizeMismatchError(
                f"has {size} bytes and the descriptor says {descriptor.size}", where=f"blob {descriptor.digest}"
            )
        for one in found:
            if os.fstat(one.fd).st_size < one.start + one.piece.size:
                raise CutShortError(f"is cut short before the end of {descriptor.digest}", where=one.path)
        with io.BufferedReader(_Chain(found, offset), LIMITS.chunk_bytes) as stream:
            yield stream

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject`` that the list names."""
        return referrers_in(self.contents, subject, artifact_type)


class _Chain(io.RawIOBase):
    """Pieces of one blob, one after the other, from ``offset`` on."""

    def __init__(self, places: Sequence[_Place], offset: int) -> None:
        self._places = places
        self._size = sum(one.piece.size for one in places)
        self._at = offset

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always: the pieces are parts of files."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the blob."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill ``buffer`` from one piece; nothing at the end of the last."""
        for one in self._places:
            start, end = one.piece.offset, one.piece.offset + one.piece.size
            if start <= self._at < end:
                amount = min(len(buffer), end - self._at)
                data = os.pread(one.fd, amount, one.start + self._at - start)
                buffer[: len(data)] = data
                self._at += len(data)
                return len(data)
        return 0


def sets(files: Iterable[BundleBlobs]) -> tuple[BundleSet, ...]:
    """The bundles that ``files`` are parts of, or are, in their order; a part that comes twice once."""
    found: dict[tuple[Digest, object], dict[int, BundleBlobs]] = {}
    for file in files:
        part = file.list.part
        key = identity(file.contents), None if part is None else part.layout
        found.setdefault(key, {}).setdefault(0 if part is None else part.number, file)
    return tuple(BundleSet([one for _, one in sorted(parts.items())]) for parts in found.values())


def referrers_in(contents: Contents, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
    """The artifacts attached to ``subject`` that a list names."""
    return tuple(
        one.descriptor
        for one in contents.referrers
        if one.subject == subject and artifact_type in (None, one.descriptor.artifact_type)
    )


def _places(found: PartList, list_bytes: int, fd: int, path: Path) -> Iterator[_Place]:
    """Where the content of each piece begins."""
    at = BLOCK + list_bytes + len(padding(list_bytes))
    for name, size in ((LAYOUT[0], len(LAYOUT[1])), (INDEX, len(found.contents.layout_index()))):
        at += len(tar_header(name, size=size)) + size + len(padding(size))
    for piece in (*whole(found.contents.head), *found.pieces):
        at += len(tar_header(piece.name, size=piece.size))
        yield _Place(fd, path, piece, at)
        at += piece.size + len(padding(piece.size))
