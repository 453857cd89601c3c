"""Making a delta: ``make(base, result, ...)``, on the workstation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self, cast

from edgepack.deltas.format import Blob, Description
from edgepack.deltas.members import ReadAt, pieces
from edgepack.deltas.segments import coded
from edgepack.errors import TooLargeError
from edgepack.limits import LIMITS

# What is held in memory of what the segments store; more goes to a nameless file.
_HELD = 16 << 20


@dataclass(frozen=True)
class Delta:
    """A delta that was made. Close it, or use it as a context manager."""

    description: Description
    head: bytes
    payload: BinaryIO

    @property
    def size(self) -> int:
        """Bytes of the whole delta."""
        return len(self.head) + self.description.stored

    def write_to(self, file: BinaryIO) -> None:
        """Write the delta to ``file``."""
        file.write(self.head)
        self.payload.seek(0)
        while chunk := self.payload.read(LIMITS.chunk_bytes):
            file.write(chunk)

    def close(self) -> None:
        """Remove what was kept outside of memory."""
        self.payload.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def make(
    base: BinaryIO, result: BinaryIO, base_blob: Blob, result_blob: Blob, *, memory: int = LIMITS.delta_memory_bytes
) -> Delta | None:
    """The delta that makes the content of ``result_blob`` of that of ``base_blob``.

    ``base`` and ``result`` are seekable and yield these contents. ``None`` when it would not save a tenth of
    ``result_blob`` as it is stored, or when applying it would need more than ``memory`` bytes. Equal arguments and
    versions of zstd give equal bytes. Memory stays flat.
    """
    segments = []
    payload = cast(BinaryIO, tempfile.SpooledTemporaryFile(_HELD))  # noqa: SIM115, the delta closes it
    most, stored = result_blob.size * 9 // 10, 0
    try:
        for one in coded(pieces(base, result), ReadAt(base), base_blob.content.size, ReadAt(result)):
            segments.append(one.segment)
            payload.write(one.stored)
            stored += len(one.stored)
            if stored > most:
                break
        else:
            description = Description(base_blob, result_blob, tuple(segments))
            delta = Delta(description, description.head(), payload)
            if delta.size <= most and description.memory <= memory:
                return delta
    except TooLargeError:  # of very many small segments; the blob is smaller than what describes it would have to be
        pass
    except BaseException:
        payload.close()
        raise
    payload.close()
    return None
