"""Applying a delta: ``apply(delta, base, write)``, with the standard library and zstd alone.

Nothing of a delta is trusted. Its description is checked before anything is written; the memory that it needs is
calculated from its segments, and refused at once when it is more than it may be. While it is applied each length is
exact, and at the end the hash must be the one that the description names. Whoever applies it writes to a place from
which nothing is used before that: ``edgepack.oci.store.Store.receive`` is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from edgepack.deltas import frames, planes
from edgepack.deltas.format import (
    Copy,
    Description,
    Difference,
    Patch,
    Segment,
    check_end,
    exactly,
    read_description,
)
from edgepack.errors import DigestMismatchError, IncompatibleError, SizeMismatchError
from edgepack.limits import LIMITS

# What numpy takes when it has been imported, measured with OpenBLAS on two processors: it is left out where that does
# not fit, since it is only faster.
_NUMPY_BYTES = 48 << 20
_WHOLE = "ask for the whole blob"


def apply(
    delta: BinaryIO,
    base: BinaryIO,
    write: Callable[[bytes], object],
    *,
    memory: int = LIMITS.delta_memory_bytes,
    where: object = "delta",
) -> Description:
    """Give ``write`` the content of the result, in pieces, and return the description.

    ``delta`` is read forwards; ``base`` is seekable and yields the content that the delta is from: what the blob
    unpacks to, where its description says that it is compressed. At most ``memory`` bytes are used by the process, when
    it has done little else before.

    Raises ``IncompatibleError`` when that is too little, before anything is written; ``VerificationError`` for a delta
    that is damaged or lies, and for a base that is not the one that it names: then what was written is worthless and
    the whole blob is to be asked for. ``MissingPartError`` where zstd is not installed.
    """
    description = read_description(delta, where)
    check_memory(description, memory, where)
    with_numpy = description.memory + _NUMPY_BYTES <= memory
    result = hashlib.sha256()
    _check_length(base, description, where)
    for segment in description.segments:
        made = 0
        for piece in _pieces(segment, delta, base, with_numpy, where):
            made += len(piece)
            result.update(piece)
            write(piece)
        if made != segment.length:
            raise SizeMismatchError(f"a segment makes {made} of {segment.length} bytes", where=where, hint=_WHOLE)
    check_end(delta, where)
    if result.hexdigest() != description.result.content.digest.hex:
        raise _mismatch(description, base, where)
    return description


def check_memory(description: Description, memory: int, where: object = "delta") -> None:
    """Raise ``IncompatibleError`` when applying needs more than ``memory`` bytes."""
    if description.memory > memory:
        raise IncompatibleError(
            f"needs {description.memory} bytes of memory and may use {memory}", where=where, hint=_WHOLE
        )


def _pieces(segment: Segment, delta: BinaryIO, base: BinaryIO, with_numpy: bool, where: object) -> Iterator[bytes]:
    if isinstance(segment, Copy):
        base.seek(segment.offset)
        for at in range(0, segment.length, LIMITS.chunk_bytes):
            yield exactly(base, min(LIMITS.chunk_bytes, segment.length - at), where)
        return
    stored = exactly(delta, segment.stored, where)
    if isinstance(segment, Patch):
        yield frames.decompress(stored, _read(base, segment.offset, segment.window, where), segment.length, where)
        return
    plain = stored if segment.stored == segment.length else frames.decompress(stored, b"", segment.length, where)
    del stored
    if isinstance(segment, Difference):
        old = _read(base, segment.offset, segment.length, where)
        yield from planes.decode(segment.kind, old, plain, numpy=with_numpy)
    else:
        yield plain


def _read(base: BinaryIO, offset: int, size: int, where: object) -> bytes:
    base.seek(offset)
    return exactly(base, size, where)


def _check_length(base: BinaryIO, description: Description, where: object) -> None:
    size = base.seek(0, 2)
    if size != description.base.content.size:
        raise SizeMismatchError(
            f"is from a base of {description.base.content.size} bytes, and this one has {size}",
            where=where,
            hint=_WHOLE,
        )


def _mismatch(description: Description, base: BinaryIO, where: object) -> DigestMismatchError:
    """Which of the two it was: only now, since reading a large base takes as long as applying."""
    base.seek(0)
    found = hashlib.sha256()
    while chunk := base.read(LIMITS.chunk_bytes):
        found.update(chunk)
    if found.hexdigest() != description.base.content.digest.hex:
        return DigestMismatchError(f"its base is not {description.base.content.digest}", where=where, hint=_WHOLE)
    return DigestMismatchError(
        f"does not make {description.result.content.digest}, which it names", where=where, hint=_WHOLE
    )
