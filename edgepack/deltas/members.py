"""The result of a delta beside its base, piece by piece: files of two tars by their names, tensors of two models.

Anything may be given: what is not a tar is one file without a name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from edgepack.deltas.format import WIDTHS
from edgepack.deltas.tensors import Tensor, tensors
from edgepack.errors import UnsafeArchiveError
from edgepack.limits import LIMITS
from edgepack.oci.tar.stream import TarStream

# What changes in the name of a file from one version to the next: numbers, and digests in hex.
_VARYING = re.compile(r"[0-9a-f]{8,}|[0-9]+")
# A tensor, or a part of it, that is smaller lies in the patch of what is around it.
_LEAST_TENSOR = 4 << 10
# Files of one size are compared in blocks, so that what did not change in them is copied.
_BLOCK = 64 << 10
# Of a file whose format is not known, whether it is an array is asked of files that are at least as large.
_LEAST_ARRAY = 256 << 10
_GUESSED = ("f32", "f16", "bf16", "i8")


@dataclass(frozen=True)
class Piece:
    """The bytes ``start`` to ``end`` of the result, and those of the base which they are likely to be made of.

    ``same`` are equal; ``kinds`` are the kinds of elements by whose differences they may be told.
    """

    start: int
    end: int
    base_start: int
    base_end: int
    same: bool = False
    kinds: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return self.end - self.start

    @property
    def base_size(self) -> int:
        """Bytes of the base."""
        return self.base_end - self.base_start


@dataclass(frozen=True)
class _File:
    """A member of a tar: its headers from ``start`` on, its data, and the padding up to ``end``."""

    name: str
    start: int
    data: int
    size: int
    end: int
    digest: bytes
    data_digest: bytes


class ReadAt:
    """A seekable file, read at any place."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def __call__(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on, fewer at the end of the file."""
        self.file.seek(offset)
        return self.file.read(size)


def pieces(base: BinaryIO, result: BinaryIO) -> list[Piece]:
    """The result in its order, without gaps; what follows another both here and in the base is one piece with it."""
    olds, news = _files(base), _files(result)
    reads = ReadAt(base), ReadAt(result)
    by_name = {old.name: old for old in reversed(olds)}
    by_shape = {_VARYING.sub("#", old.name): old for old in reversed(olds)}
    by_data = {old.data_digest: old for old in reversed(olds) if old.size >= _BLOCK}
    found: list[Piece] = []
    last = 0
    for new in news:
        old = by_name.get(new.name) or by_shape.get(_VARYING.sub("#", new.name))
        twin = by_data.get(new.data_digest)
        if old is not None and old.digest == new.digest:
            made = [Piece(new.start, new.end, old.start, old.end, same=True)]
        elif twin is not None:
            made = [
                Piece(new.start, new.data, twin.start, twin.data),
                Piece(new.data, new.data + new.size, twin.data, twin.data + twin.size, same=True),
                Piece(new.data + new.size, new.end, twin.data + twin.size, twin.end),
            ]
        elif old is not None:
            made = list(_beside(old, new, *reads))
        else:
            made = [Piece(new.start, new.end, last, last)]
        found += [one for one in made if one.size]
        last = found[-1].base_end if found else 0
    return list(_joined(found))


def _files(file: BinaryIO) -> list[_File]:
    """The members of a tar, and what follows the last; what is not a tar is one file."""
    end = file.seek(0, 2)
    file.seek(0)
    reader = _Hashing(file)
    tar = TarStream(cast(BinaryIO, reader), as_engines=True)
    found: list[_File] = []
    at = 0
    try:
        for member in tar:
            data, content = reader.position, hashlib.sha256()
            for chunk in tar.chunks():
                content.update(chunk)
            found.append(_File(member.name, at, data, member.size, reader.position, reader.taken(), content.digest()))
            at = reader.position
    except UnsafeArchiveError:
        found, at = [], 0
    if at < end:
        digest = _digest(ReadAt(file), at, end)
        found.append(_File("", at, at, end - at, end, digest, digest))
    return found


class _Hashing:
    """A stream that counts and hashes what is read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.position = 0

    def read(self, amount: int) -> bytes:
        data = self._file.read(amount)
        self._hash.update(data)
        self.position += len(data)
        return data

    def taken(self) -> bytes:
        """The hash of what was read since the last call."""
        digest = self._hash.digest()
        self._hash = hashlib.sha256()
        return digest


def _digest(read_at: ReadAt, start: int, end: int) -> bytes:
    found = hashlib.sha256()
    for at in range(start, end, LIMITS.chunk_bytes):
        found.update(read_at(at, min(LIMITS.chunk_bytes, end - at)))
    return found.digest()


def _beside(old: _File, new: _File, read_old: ReadAt, read_new: ReadAt) -> Iterator[Piece]:
    """A file and its earlier version: their tensors beside each other, and what lies between them."""
    pairs = list(_pairs(old, new, read_old, read_new))
    if not pairs and new.size == old.size and new.size >= _BLOCK:
        kinds = _GUESSED if new.size >= _LEAST_ARRAY else ()
        pairs = [Piece(new.data, new.data + new.size, old.data, old.data + old.size, kinds=kinds)]
    at, old_at = new.start, old.start
    for pair in pairs:
        yield Piece(at, pair.start, old_at, max(old_at, pair.base_start))
        yield from _compared(pair, read_old, read_new)
        at, old_at = pair.end, pair.base_end
    yield Piece(at, new.end, min(old_at, old.end), old.end)


def _pairs(old: _File, new: _File, read_old: ReadAt, read_new: ReadAt) -> Iterator[Piece]:
    if min(old.size, new.size) < _LEAST_TENSOR:
        return
    known: dict[tuple[str, str, int], Tensor] = {
        (one.name, one.kind, one.size): one for one in tensors(_within(read_old, old), old.size)
    }
    if not known:
        return
    for one in tensors(_within(read_new, new), new.size):
        was = known.get((one.name, one.kind, one.size))
        if was is not None and one.size >= _LEAST_TENSOR and one.size % WIDTHS[one.kind] == 0:
            start, base = new.data + one.start, old.data + was.start
            yield Piece(start, start + one.size, base, base + one.size, kinds=(one.kind,))


def _within(read_at: ReadAt, file: _File) -> Callable[[int, int], bytes]:
    return lambda at, size: read_at(file.data + at, max(0, min(size, file.size - at)))


def _compared(piece: Piece, read_old: ReadAt, read_new: ReadAt) -> Iterator[Piece]:
    """A piece as large as its base, cut where blocks that are equal begin or end."""
    began, equal = 0, None
    for at in range(0, piece.size, _BLOCK):
        size = min(_BLOCK, piece.size - at)
        same = read_old(piece.base_start + at, size) == read_new(piece.start + at, size)
        if equal not in (None, same):
            yield _part(piece, began, at, equal is True)
            began = at
        equal = same
    yield _part(piece, began, piece.size, equal is True)


def _part(piece: Piece, start: int, end: int, same: bool) -> Piece:
    return replace(
        piece, start=piece.start + start, end=piece.start + end, base_start=piece.base_start + start,
        base_end=piece.base_start + end, same=same,
    )  # fmt: skip


def _joined(found: list[Piece]) -> Iterator[Piece]:
    """Pieces of one kind that follow each other, here and in the base, as one."""
    held: Piece | None = None
    for piece in found:
        if held is not None and held.same and piece.same and held.base_end == piece.base_start:
            held = replace(held, end=piece.end, base_end=piece.base_end)
            continue
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held
