"""Layers as small as gzip makes them, with the same bytes on every host.

The compressor is libdeflate: for its level and version the blob does not depend on the processor, which cannot be said
of the vectorised ones. DEFLATE in gzip members, RFC 1951 and RFC 1952.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress

from edgepack.host.progress import Progress, unseen
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.layer import Compressor, Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store
from packager.layers.watched import watched_entries

# Level 6: 30.1 MB for the scoring stack's 91 MB in 1.5 s; 5 gives 30.3 in 1.2 s, 9 gives 29.9 in 2.7 s.
LEVEL = 6
# RFC 1952, 2.3: magic, deflate, no flags, no time, no hint of the level, unknown operating system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
# A long layer is judged by its beginning, so that gigabytes of weights are not compressed in vain.
_JUDGED_AFTER = 32 << 20


class Gzip:
    """A gzip layer. Its bytes depend on the plain bytes and the library alone, not on the pieces in which they come."""

    media_type = mediatypes.LAYER_GZIP

    def __init__(self, level: int = LEVEL) -> None:
        self._level = level
        self._held = bytearray()

    def compress(self, data: bytes) -> bytes:
        """Take a piece of the tar, give the members that are complete."""
        self._held += data
        ready = []
        while len(self._held) >= LIMITS.gzip_member_bytes:
            ready.append(self._member(bytes(self._held[: LIMITS.gzip_member_bytes])))
            del self._held[: LIMITS.gzip_member_bytes]
        return b"".join(ready)

    def flush(self) -> bytes:
        """The last member."""
        rest = bytes(self._held)
        self._held.clear()
        return self._member(rest) if rest else b""

    def _member(self, data: bytes) -> bytes:
        import deflate

        body = bytes(deflate.deflate_compress(data, self._level))
        return _HEADER + body + struct.pack("<II", zlib.crc32(data), len(data))


def compressor_name(level: int = LEVEL) -> str:
    """What decides the bytes of a ``Gzip`` layer, such as ``libdeflate by deflate 0.9.0 level 6``."""
    import deflate

    return f"libdeflate by deflate {deflate.__version__} level {level}"


class _IncompressibleError(Exception):
    """Compressing would save less than a tenth."""


class _CheckedCompressor:
    """Passes on to ``inner`` until it is clear that this saves less than a tenth; raises then."""

    def __init__(self, inner: Compressor) -> None:
        self.media_type = inner.media_type
        self._inner = inner
        self._taken = self._given = 0
        self._judged = False

    def compress(self, data: bytes) -> bytes:
        ready = self._inner.compress(data)
        self._taken += len(data)
        self._given += len(ready)
        if self._taken >= _JUDGED_AFTER and not self._judged:
            self._judge()
        return ready

    def flush(self) -> bytes:
        rest = self._inner.flush()
        self._given += len(rest)
        if not self._judged:
            self._judge()
        return rest

    def _judge(self) -> None:
        self._judged = True
        if self._given * 10 > self._taken * 9:
            raise _IncompressibleError


def write_best_layer(
    entries: Iterable[LayerEntry],
    store: Store,
    *,
    kind: str,
    title: str = "",
    mtime: int = 0,
    annotations: Mapping[str, str] | None = None,
    progress: Progress = unseen,
) -> Layer:
    """Write the entries as a gzip layer, or as a plain one where gzip would save less than a tenth.

    A tar of 32 MiB and more is judged by its first 32 MiB. The contents of ``entries`` may be read twice. The layer
    carries ``kind``, ``title`` and, when compressed, the compressor as annotations; ``progress`` watches what is read.
    Raises what ``write_layer`` raises.
    """
    listing = tuple(entries)
    notes = {**({mediatypes.LAYER_TITLE: title} if title else {}), **(annotations or {})}
    compressed = {mediatypes.LAYER_COMPRESSOR: compressor_name(), **notes}
    name, total = title or kind, sum(entry.size for entry in listing)
    with progress(f"compress {name}", total) as advance, suppress(_IncompressibleError):
        watched = watched_entries(listing, advance)
        return write_layer(watched, store, _CheckedCompressor(Gzip()), kind=kind, mtime=mtime, annotations=compressed)
    with progress(f"store {name}", total) as advance:
        watched = watched_entries(listing, advance)
        return write_layer(watched, store, NoCompression(), kind=kind, mtime=mtime, annotations=notes)
