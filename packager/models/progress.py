"""How far a registration is: the bytes that were read of the files, each of which is read twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from edgepack.oci.layer import LayerEntry
from packager.models.sources import Source

# What is called with more bytes, and what gives it for a total.
Advance = Callable[[int], None]
Progress = Callable[[int], AbstractContextManager[Advance]]


@contextmanager
def unseen(total: int) -> Iterator[Advance]:
    """Progress that nobody watches."""
    yield lambda count: None


def watched(source: Source, advance: Advance) -> Source:
    """``source``, whose files tell ``advance`` what is read of them."""
    entries = tuple(_watched(entry, advance) for entry in source.tree.entries)
    return replace(source, tree=replace(source.tree, entries=entries))


def size_of(source: Source) -> int:
    """The bytes of its files."""
    return sum(entry.size for entry in source.tree.entries)


def _watched(entry: LayerEntry, advance: Advance) -> LayerEntry:
    original = entry.content
    if original is None:
        return entry

    @contextmanager
    def content() -> Iterator[BinaryIO]:
        with original() as file:
            yield cast(BinaryIO, _Counted(file, advance))

    return replace(entry, content=content)


@dataclass
class _Counted:
    """A file that tells what is read of it."""

    file: BinaryIO
    advance: Advance

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.advance(len(data))
        return data
