"""Compressed request bodies (RFC 9110, 8.4): gzip and deflate, unpacked within the limit for bodies."""

from __future__ import annotations

from edge_server.errors import BadRequest

_EITHER = 32 + 15  # zlib finds out whether it is gzip or zlib, with windows of any size
_RAW = -15  # some clients send deflate without zlib's header


def plain(body: bytes, encoding: bytes | None, limit: int) -> bytes:
    """The body without its content encoding; ``identity`` beside another encoding, as some clients send it, is ignored.

    Raises BadRequest: 415 for an encoding that this server does not know and for several at once, 413 for what unpacks
    to more than ``limit`` bytes (nothing beyond it is unpacked), 400 for damaged data and for bytes after its end.
    """
    given = [name.strip().lower() for name in (encoding or b"").split(b",")]
    names = [name for name in given if name not in (b"", b"identity")]
    if not names:
        return body
    name = b", ".join(names)
    if name not in (b"gzip", b"x-gzip", b"deflate"):
        shown = name.decode("latin-1")[:80]
        raise BadRequest(
            f"the content encoding {shown!r} is not supported", 415, [(b"accept-encoding", b"gzip, deflate")]
        )
    # Imported here since few clients compress.
    import zlib

    # Zlib's header is a multiple of 31; a raw stream that looks like one has a reserved block type.
    raw = name == b"deflate" and (len(body) < 2 or body[0] & 15 != 8 or (body[0] * 256 + body[1]) % 31 != 0)
    stream = zlib.decompressobj(_RAW if raw else _EITHER)
    try:
        # One byte beyond the limit is read to learn whether there is more.
        content = stream.decompress(body, limit + 1)
    except zlib.error:
        raise BadRequest(f"the body is not {name.decode()}") from None
    if len(content) > limit:
        raise BadRequest(f"the body unpacks to more than {limit} bytes", 413)
    if not stream.eof:
        raise BadRequest(f"the body ends before its {name.decode()} data does")
    if stream.unused_data:
        raise BadRequest(f"the body has bytes after its {name.decode()} data")
    return content
