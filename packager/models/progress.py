"""How far a registration is: the bytes that were read of the files, each of which is read twice."""

from __future__ import annotations

from dataclasses import replace

from edgepack.host.progress import Advance
from packager.layers.watched import watched_entries
from packager.models.sources import Source


def watched(source: Source, advance: Advance) -> Source:
    """``source``, whose files tell ``advance`` what is read of them."""
    entries = watched_entries(source.tree.entries, advance)
    return replace(source, tree=replace(source.tree, entries=entries))


def size_of(source: Source) -> int:
    """The bytes of its files."""
    return sum(entry.size for entry in source.tree.entries)
