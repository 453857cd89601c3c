"""Deterministic layers: the same entries make the same tar, on any host, at any time.

Names sorted by bytes, parents included, integer mtime, uid and gid 0, no user names, USTAR headers with PAX only where
a name needs it (image-spec 1.1, layer.md; docs/architecture.md, "Model layer").
"""

from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from edgepack.errors import UsageError
from edgepack.limits import LIMITS, path_excess
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.tar.header import END, MemberKind, padding, tar_header


@dataclass(frozen=True)
class LayerEntry:
    """One name in a layer. ``path`` is relative to the root of the image; ``content`` opens a file's ``size`` bytes."""

    path: str
    kind: MemberKind = "file"
    mode: int = 0o644
    size: int = 0
    linkname: str = ""
    content: Callable[[], AbstractContextManager[BinaryIO]] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_bytes(cls, path: str, data: bytes, mode: int = 0o644) -> LayerEntry:
        """A file that holds ``data``."""
        return cls(path, "file", mode, len(data), content=lambda: io.BytesIO(data))

    @classmethod
    def of_file(cls, path: str, source: Path) -> LayerEntry:
        """A file with the bytes of ``source``; executable when its owner may execute it."""
        info = source.stat()
        return cls(path, "file", normalised_mode(info.st_mode), info.st_size, content=lambda: source.open("rb"))


@dataclass(frozen=True)
class Layer:
    """A layer in a store: its blob, the digest of its plain tar, and that tar's length in bytes."""

    descriptor: Descriptor
    diff_id: Digest
    unpacked_size: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Layer:
        """The layer that ``to_json`` wrote; for another value ``KeyError``, ``ValueError`` or ``UsageError``."""
        descriptor = Descriptor.from_json(value["descriptor"])
        return cls(descriptor, Digest.parse(value["diff_id"]), int(value["unpacked_size"]))

    def to_json(self) -> dict[str, Any]:
        """The layer as a JSON object."""
        return {
            "descriptor": self.descriptor.to_json(),
            "diff_id": str(self.diff_id),
            "unpacked_size": self.unpacked_size,
        }


class Compressor(Protocol):
    """Turns a plain tar into a layer's blob."""

    media_type: str

    def compress(self, data: bytes) -> bytes:
        """Add a piece of the tar; returns the part of the blob that is ready."""

    def flush(self) -> bytes:
        """The rest of the blob."""


class NoCompression:
    """Stores a layer uncompressed."""

    media_type = mediatypes.LAYER

    def compress(self, data: bytes) -> bytes:
        """The piece itself."""
        return data

    def flush(self) -> bytes:
        """Nothing."""
        return b""


def normalised_mode(mode: int) -> int:
    """0755 for what its owner may execute, else 0644: the umask of whoever made a file must not show."""
    return 0o755 if mode & stat.S_IXUSR else 0o644


def checked_path(path: str) -> str:
    """``path`` when it is a relative, normal path that stays below the root; raises ``UsageError``."""
    pure = PurePosixPath(path)
    if not path or "\0" in path or pure.is_absolute() or ".." in pure.parts or str(pure) != path or path == ".":
        raise UsageError(f"{path!r} is not a valid path in a layer", hint="use a relative path without '..'")
    if (excess := path_excess(path)) is not None:
        raise UsageError(excess, where=f"{path[:64]}…", hint="move it up, or leave it out")
    if any(part.startswith(".wh.") for part in pure.parts):
        raise UsageError("names that start with .wh. are whiteouts", where=path, hint="rename the file")
    if not _is_utf8(path):
        raise UsageError("the name is not UTF-8", where=ascii(path), hint="rename the file")
    return path


def _is_utf8(text: str) -> bool:
    """False for what the file system gave as bytes that are no text (PEP 383)."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def ordered(entries: Iterable[LayerEntry]) -> list[LayerEntry]:
    """The entries sorted by the bytes of their names, with the parents that are missing; raises ``UsageError``."""
    found: dict[str, LayerEntry] = {}
    for entry in entries:
        if checked_path(entry.path) in found:
            raise UsageError("is listed twice in the layer", where=entry.path)
        if entry.kind in ("symlink", "hardlink"):
            _check_link(entry)
        found[entry.path] = entry
    for path in list(found):
        for parent in PurePosixPath(path).parents:
            name = str(parent)
            if name != "." and name not in found:
                found[name] = LayerEntry(name, "dir", 0o755)
            elif name != "." and found[name].kind != "dir":
                raise UsageError(f"{name} is not a directory", where=path)
    _order_hardlinks(found)
    return [found[name] for name in sorted(found, key=lambda text: text.encode())]


def _order_hardlinks(found: dict[str, LayerEntry]) -> None:
    """Store each hard-linked file under its first name: a hard link may only name an earlier entry."""
    names: dict[str, list[str]] = {}
    for entry in found.values():
        if entry.kind == "hardlink":
            target = found.get(entry.linkname)
            if target is None or target.kind != "file":
                raise UsageError(f"the hard link's {entry.linkname!r} is not a file in this layer", where=entry.path)
            names.setdefault(target.path, [target.path]).append(entry.path)
    for target_path, group in names.items():
        first, file = min(group, key=lambda text: text.encode()), found[target_path]
        for name in group:
            found[name] = LayerEntry(name, "hardlink", file.mode, linkname=first)
        found[first] = replace(file, path=first)


def _check_link(entry: LayerEntry) -> None:
    """A link may name an absolute path of the image, or a relative one that does not climb out of it."""
    if not entry.linkname or "\0" in entry.linkname or not _is_utf8(entry.linkname):
        raise UsageError(f"{entry.linkname!a} is not a valid target of a link", where=entry.path)
    depth = 0 if entry.kind == "hardlink" else len(PurePosixPath(entry.path).parts) - 1
    for part in PurePosixPath(entry.linkname).parts:
        depth = 0 if part == "/" else depth - 1 if part == ".." else depth + 1
        if depth < 0:
            raise UsageError(f"the link to {entry.linkname!r} points out of the image", where=entry.path)


def write_layer(
    entries: Iterable[LayerEntry],
    store: Store,
    compressor: Compressor,
    *,
    kind: str,
    mtime: int = 0,
    annotations: Mapping[str, str] | None = None,
) -> Layer:
    """Write the entries as one layer of ``kind`` into ``store``; memory stays flat whatever their size.

    Raises ``UsageError`` for paths and links that no layer may hold, ``NoSpaceError`` when the disk is full; nothing
    appears in the store then.
    """
    return store_tar(_tar(ordered(entries), mtime), store, compressor, kind=kind, annotations=annotations)


def store_tar(
    chunks: Iterable[bytes],
    store: Store,
    compressor: Compressor,
    *,
    kind: str,
    annotations: Mapping[str, str] | None = None,
) -> Layer:
    """Write the plain tar that ``chunks`` are as one layer of ``kind`` into ``store``, whole or not at all.

    The bytes of the layer do not depend on how the tar is cut into chunks. Raises what ``chunks`` raise, and
    ``NoSpaceError``.
    """
    # The blob of an uncompressed layer is the tar, whose hash the store makes.
    plain_hash = None if isinstance(compressor, NoCompression) else hashlib.sha256()
    plain_size = 0
    with store.writer() as blob:
        for piece in _pieces(chunks):
            if plain_hash is not None:
                plain_hash.update(piece)
            plain_size += len(piece)
            blob.write(compressor.compress(piece))
        blob.write(compressor.flush())
        digest, size = blob.commit()
    notes = {mediatypes.LAYER_KIND: kind, mediatypes.LAYER_UNPACKED: str(plain_size), **(annotations or {})}
    diff_id = digest if plain_hash is None else Digest(plain_hash.hexdigest())
    return Layer(Descriptor(compressor.media_type, digest, size, notes), diff_id, plain_size)


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= LIMITS.compressor_piece_bytes:
            yield bytes(held[: LIMITS.compressor_piece_bytes])
            del held[: LIMITS.compressor_piece_bytes]
    if held:
        yield bytes(held)


def _tar(entries: list[LayerEntry], mtime: int) -> Iterator[bytes]:
    for entry in entries:
        size = entry.size if entry.kind == "file" else 0
        yield tar_header(entry.path, entry.kind, size=size, mode=entry.mode, mtime=mtime, linkname=entry.linkname)
        if size:
            yield from _content(entry)
            yield padding(size)
    yield END


def _content(entry: LayerEntry) -> Iterator[bytes]:
    if entry.content is None:
        raise UsageError("has a size and no content", where=entry.path)
    left = entry.size
    with entry.content() as file:
        while left and (chunk := file.read(min(left, LIMITS.compressor_piece_bytes))):
            left -= len(chunk)
            yield chunk
        if left or file.read(1):
            raise UsageError("changed while it was read", where=entry.path, hint="run the same command again")
