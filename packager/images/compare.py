"""Where two layers differ: the first path, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.sources import BlobSource
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.tar.stream import TarStream


@dataclass(frozen=True)
class Entry:
    """One entry of a layer, with the hash of its content."""

    path: str
    kind: str
    mode: int
    owner: str
    time: int
    link: str
    content: str


@dataclass(frozen=True)
class Difference:
    """The first path at which two layers differ, and how: what is there and what was made anew."""

    path: str
    how: str


def first_difference(source: BlobSource, layer: Descriptor, other: BlobSource, made: Descriptor) -> Difference | None:
    """Where ``layer`` of ``source`` and ``made`` of ``other`` differ first, by path; ``None`` where they do not.

    Raises what the sources raise, and ``VerificationError`` for a layer that is no tar.
    """
    there = {entry.path: entry for entry in entries(source, layer)}
    anew = {entry.path: entry for entry in entries(other, made)}
    for path in sorted(there.keys() | anew.keys(), key=lambda text: text.encode("utf-8", "surrogateescape")):
        if path not in anew:
            return Difference(path, "is in the image, and not in what was built again")
        if path not in there:
            return Difference(path, "is missing in the image")
        if there[path] != anew[path]:
            return Difference(path, _how(there[path], anew[path]))
    return None if list(there) == list(anew) else Difference(next(iter(there), ""), "the entries are in another order")


def entries(source: BlobSource, layer: Descriptor) -> Iterator[Entry]:
    """The entries of a layer, in its order."""
    with source.open(layer) as stream:
        tar = TarStream(decompressed(stream, layer, LIMITS.layer_unpacked_bytes), as_engines=True)
        for member in tar:
            digest = hashlib.sha256()
            for chunk in tar.chunks():
                digest.update(chunk)
            yield Entry(
                member.name.rstrip("/"), member.kind, member.mode & 0o7777, f"{member.uid}:{member.gid}",
                int(member.mtime), member.linkname, digest.hexdigest(),
            )  # fmt: skip


def _how(there: Entry, anew: Entry) -> str:
    if there.kind != anew.kind:
        return f"is a {there.kind} in the image, and a {anew.kind} built again"
    if there.content != anew.content:
        return f"has other content: {there.content[:12]} in the image, {anew.content[:12]} built again (SHA-256)"
    if there.mode != anew.mode:
        return f"has the mode {there.mode:04o} in the image, and {anew.mode:04o} built again"
    if there.owner != anew.owner:
        return f"belongs to {there.owner} in the image, and to {anew.owner} built again"
    if there.link != anew.link:
        return f"leads to {there.link!r} in the image, and to {anew.link!r} built again"
    return f"has the time {there.time} in the image, and {anew.time} built again"
