"""Pieces as segments, each in the smallest of the ways in which it can be told.

A copy where enough of the base is equal; differences of numbers; a patch in segments, each with what lies around it in
the base as its window; or whole. A patch of everything at once would need the memory of everything, and is no smaller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgepack.deltas import frames, planes
from edgepack.deltas.format import WIDTHS, Copy, Difference, Patch, Segment, Whole
from edgepack.deltas.members import Piece, ReadAt
from edgepack.limits import LIMITS

# Level 9 is the least that finds patches; 19 saves up to an eighth of what 12 leaves and takes ten times as long, so
# that is for what is small.
_LEVELS = ((24 << 20, 19), (256 << 20, 12))
_LEAST_LEVEL = 9
# Noise, as the low bytes of differences are, is only stored at any level.
_PLANES_LEVEL = 12
# What is equal and shorter costs less inside the patch around it than as a copy of its own.
_LEAST_COPY = 16 << 10
# What a patch makes, and how far beyond the base's own part its window goes on either side.
_PATCHED = 2 << 20
_MARGIN = 2 << 20
_MOST_BASE = LIMITS.delta_window_bytes - _PATCHED
# Of a file of unknown format, so much is tried as an array.
_SAMPLE = 256 << 10


@dataclass(frozen=True)
class Coded:
    """A segment, and what it has stored."""

    segment: Segment
    stored: bytes


def coded(found: Sequence[Piece], base: ReadAt, base_size: int, result: ReadAt) -> Iterator[Coded]:
    """The segments that make ``found``, in order."""
    changed = sum(one.size for one in found if not _is_copy(one))
    level = next((level for most, level in _LEVELS if changed <= most), _LEAST_LEVEL)
    coder = _Coder(base, base_size, result, level)
    waiting: list[Piece] = []
    for piece in found:
        kind = None if _is_copy(piece) else coder.array_kind(piece)
        if kind is None and not _is_copy(piece):
            waiting.append(piece)
            continue
        yield from coder.patches(waiting)
        waiting = []
        if kind is None:
            yield Coded(Copy(piece.base_start, piece.size), b"")
        else:
            yield from coder.differences(piece, kind)
    yield from coder.patches(waiting)


def _is_copy(piece: Piece) -> bool:
    return piece.same and piece.size >= _LEAST_COPY


@dataclass(frozen=True)
class _Coder:
    base: ReadAt
    base_size: int
    result: ReadAt
    level: int

    def array_kind(self, piece: Piece) -> str | None:
        """The kind of numbers whose differences are to be told, if any; of an unknown file that which a sample says."""
        if piece.same or not piece.kinds:
            return None
        if len(piece.kinds) == 1:
            return piece.kinds[0]
        size = min(_SAMPLE, piece.size)
        old, new = self.base(piece.base_start, size), self.result(piece.start, size)
        sizes: dict[str | None, int] = {None: len(frames.compress(new, old, _LEAST_LEVEL)) * 9 // 10}
        for kind in piece.kinds:
            if piece.size % WIDTHS[kind] == 0:
                sizes[kind] = len(frames.compress(planes.encode(kind, old, new), b"", _LEAST_LEVEL))
        return min(sizes, key=sizes.__getitem__)

    def differences(self, piece: Piece, kind: str) -> Iterator[Coded]:
        """The piece by differences, or where it is smaller by a patch."""
        for at in range(0, piece.size, LIMITS.delta_segment_bytes):
            size = min(LIMITS.delta_segment_bytes, piece.size - at)
            start, base_start = piece.start + at, piece.base_start + at
            data = planes.encode(kind, self.base(base_start, size), self.result(start, size))
            stored = _squeezed(data, _PLANES_LEVEL)
            if self._patch_is_likely(start, base_start, size, len(stored)):
                patched = list(self.patches([Piece(start, start + size, base_start, base_start + size)]))
                if sum(len(one.stored) for one in patched) < len(stored):
                    yield from patched
                    continue
            yield Coded(Difference(kind, base_start, size, len(stored)), stored)

    def _patch_is_likely(self, start: int, base_start: int, size: int, stored: int) -> bool:
        """Whether a sample says that a patch is smaller than ``stored``: of noise a whole one takes seconds."""
        sample = min(_SAMPLE, size)
        found = len(frames.compress(self.result(start, sample), self.base(base_start, sample), _LEAST_LEVEL))
        return found * size < stored * sample

    def patches(self, found: Sequence[Piece]) -> Iterator[Coded]:
        """Pieces that follow each other, in segments; each piece's place in the base decides the window."""
        start = end = low = high = 0
        for piece in found:
            at = piece.start
            while at < piece.end:
                room = _PATCHED - (end - start) if end > start else _PATCHED
                to = min(piece.end, at + room)
                near, far = _place(piece, at), _place(piece, to)
                if end > start and (not room or max(high, far) - min(low, near) > _MOST_BASE - _MARGIN):
                    yield self._patch(start, end, low, high)
                    start = end
                    continue
                if end == start:
                    start, low, high = at, near, far
                low, high, end, at = min(low, near), max(high, far), to, to
        if end > start:
            yield self._patch(start, end, low, high)

    def _patch(self, start: int, end: int, low: int, high: int) -> Coded:
        data = self.result(start, end - start)
        margin = min(_MARGIN, max(0, (_MOST_BASE - (high - low)) // 2))
        low, high = max(0, low - margin), min(self.base_size, high + margin)
        if high - low > _MOST_BASE:  # a file that is much larger in the base
            low = max(low, (low + high - _MOST_BASE) // 2)
            high = low + _MOST_BASE
        window = self.base(low, high - low)
        stored = frames.compress(data, window, self.level) if len(window) >= 8 else data
        if len(stored) < len(data):
            return Coded(Patch(low, len(window), len(data), len(stored)), stored)
        stored = _squeezed(data, self.level)
        return Coded(Whole(len(data), len(stored)), stored)


def _place(piece: Piece, at: int) -> int:
    """Where in the base a place of the result is likely to be found."""
    return piece.base_start + (at - piece.start) * piece.base_size // piece.size


def _squeezed(data: bytes, level: int) -> bytes:
    frame = frames.compress(data, b"", level)
    return frame if len(frame) < len(data) else data
