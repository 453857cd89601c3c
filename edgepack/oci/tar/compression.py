"""Reading compressed layers as streams, with limits."""

from __future__ import annotations

import importlib
import io
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from edgepack.errors import MissingPartError, UnsafeArchiveError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor


class _ChunkStream(io.RawIOBase):
    """A readable stream over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def decompressed(stream: BinaryIO, layer: Descriptor, limit: int) -> BinaryIO:
    """The plain tar of ``layer`` read from ``stream``; memory stays flat.

    Raises ``UnsafeArchiveError`` when it is damaged or unpacks to more than ``limit`` bytes, ``MissingPartError`` when
    zstd is needed and not installed, ``UsageError`` for another media type.
    """
    if layer.media_type in mediatypes.PLAIN_LAYERS:
        chunks = iter(lambda: stream.read(LIMITS.chunk_bytes), b"")
    elif layer.media_type in mediatypes.GZIP_LAYERS:
        chunks = _gunzip(stream, layer)
    elif layer.media_type in mediatypes.ZSTD_LAYERS:
        chunks = _unzstd(stream, layer)
    else:
        raise UsageError(f"{layer.media_type} is not a layer's media type", where=layer.digest)
    return io.BufferedReader(_ChunkStream(_limited(chunks, layer, limit)), LIMITS.chunk_bytes)


def _limited(chunks: Iterator[bytes], layer: Descriptor, limit: int) -> Iterator[bytes]:
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        if seen > limit:
            raise UnsafeArchiveError(
                f"unpacks to more than {limit} bytes", where=f"layer {layer.digest}", hint="do not trust this image"
            )
        yield chunk


def _gunzip(stream: BinaryIO, layer: Descriptor) -> Iterator[bytes]:
    unzip = zlib.decompressobj(wbits=31)
    data = stream.read(LIMITS.chunk_bytes)
    try:
        while data:
            if unzip.eof:  # a gzip file may have several members (RFC 1952, section 2.2)
                unzip = zlib.decompressobj(wbits=31)
            yield unzip.decompress(data, LIMITS.chunk_bytes)
            data = unzip.unconsumed_tail or unzip.unused_data or stream.read(LIMITS.chunk_bytes)
        while not unzip.eof and (tail := unzip.decompress(b"", LIMITS.chunk_bytes)):
            yield tail
    except zlib.error as error:
        raise UnsafeArchiveError(f"damaged gzip ({error})", where=f"layer {layer.digest}") from error
    if not unzip.eof:
        raise UnsafeArchiveError("the gzip stream is cut short", where=f"layer {layer.digest}")


def _unzstd(stream: BinaryIO, layer: Descriptor) -> Iterator[bytes]:
    module = zstd_module()
    if module is None:
        raise MissingPartError(
            "the layer is compressed with zstd, which is not installed here",
            where=f"layer {layer.digest}",
            hint="install backports.zstd, or build the image with gzip layers",
        )
    try:
        with module.ZstdFile(stream) as file:
            yield from iter(lambda: file.read(LIMITS.chunk_bytes), b"")
    except (module.ZstdError, EOFError) as error:
        raise UnsafeArchiveError(f"damaged zstd ({error})", where=f"layer {layer.digest}") from error


def zstd_module() -> Any:
    """``compression.zstd`` of Python 3.14, or the same from ``backports``; ``None`` where neither is installed."""
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return importlib.import_module(name)
    return None
