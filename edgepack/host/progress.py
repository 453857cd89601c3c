"""How far long work is: who does it says so, and who watches shows it; nothing is printed here.

Long functions take a ``Progress`` and call it once for each piece of their work, with what the piece is and how much
there is to do::

    with progress("numpy 2.4.6", total_bytes) as advance:
        advance(len(chunk))

Pieces may run side by side, in several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What is counted: bytes, files, or nothing, where only the end is known.
Unit = Literal["bytes", "files", "none"]
# Called with what was done since; a negative number takes back what must be done again.
Advance = Callable[[int], None]


class Progress(Protocol):
    """Watches pieces of work."""

    def __call__(self, title: str, total: int, unit: Unit = "bytes") -> AbstractContextManager[Advance]:
        """A piece of work, for as long as the block lasts: ``total`` of ``unit`` are to be done."""


@contextmanager
def unseen(title: str, total: int, unit: Unit = "bytes") -> Iterator[Advance]:
    """Progress that nobody watches."""
    yield lambda count: None


@dataclass
class CountedReads:
    """A file that tells ``advance`` what is read of it."""

    file: BinaryIO
    advance: Advance

    def read(self, size: int = -1) -> bytes:
        """As the file's own."""
        data = self.file.read(size)
        self.advance(len(data))
        return data

    def readinto(self, buffer: WriteableBuffer) -> int:
        """As the file's own."""
        count = self.file.readinto(buffer)  # type: ignore[attr-defined]
        self.advance(count)
        return int(count)


def counted(file: BinaryIO, advance: Advance) -> BinaryIO:
    """``file``, to be read only, which tells ``advance`` what is read of it."""
    return cast(BinaryIO, CountedReads(file, advance))
