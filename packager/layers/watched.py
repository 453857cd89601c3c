"""Entries of a layer whose files tell what is read of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from edgepack.host.progress import Advance, counted
from edgepack.oci.layer import LayerEntry


def watched_entries(entries: Iterable[LayerEntry], advance: Advance) -> tuple[LayerEntry, ...]:
    """``entries``, whose files tell ``advance`` what is read of them."""
    return tuple(_watched(entry, advance) for entry in entries)


def _watched(entry: LayerEntry, advance: Advance) -> LayerEntry:
    original = entry.content
    if original is None:
        return entry

    @contextmanager
    def content() -> Iterator[BinaryIO]:
        with original() as file:
            yield counted(file, advance)

    return replace(entry, content=content)
