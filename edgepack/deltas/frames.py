"""zstd frames with bytes of the base before them, as ``zstd --patch-from`` has it (RFC 8878; zstd manual, "prefix").

Long-distance matching is never used: it makes small patches several times larger.
"""

from __future__ import annotations

from typing import Any

from edgepack.errors import MissingPartError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci.tar.compression import zstd_module

# The least and the largest window that zstd takes.
_LEAST_LOG, _MOST_LOG = 10, (LIMITS.delta_window_bytes - 1).bit_length()


def compress(data: bytes, prefix: bytes, level: int) -> bytes:
    """One frame for ``data``, which says how long it is; ``prefix`` and ``data`` are within one window."""
    zstd = _zstd()
    parameter = zstd.CompressionParameter
    window = max(_LEAST_LOG, (len(prefix) + len(data) - 1).bit_length())
    options = {
        parameter.compression_level: level,
        parameter.window_log: min(window, _MOST_LOG),
        parameter.enable_long_distance_matching: 2,  # ZSTD_ps_disable
    }
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=_prefix(zstd, prefix))
    compressor.set_pledged_input_size(len(data))
    return bytes(compressor.compress(data, compressor.FLUSH_FRAME))


def decompress(frame: bytes, prefix: bytes, length: int, where: object) -> bytes:
    """The ``length`` bytes of ``frame``; raises ``VerificationError`` for a frame that is anything else.

    Memory is that of the arguments, of the result, and of a window: what a frame asks for beyond is refused.
    """
    zstd = _zstd()
    try:
        if zstd.get_frame_info(frame).decompressed_size != length:
            raise _refusal("announces another length", where)
        if _window_log(frame) > _MOST_LOG:  # zstd itself asks only when it needs the window
            raise _refusal(f"asks for a window of more than {1 << _MOST_LOG} bytes", where)
        decompressor = zstd.ZstdDecompressor(
            zstd_dict=_prefix(zstd, prefix), options={zstd.DecompressionParameter.window_log_max: _MOST_LOG}
        )
        data = decompressor.decompress(frame, length + 1)
    except zstd.ZstdError as error:
        raise _refusal(f"is damaged ({error})", where) from error
    if len(data) != length or not decompressor.eof or decompressor.unused_data:
        raise _refusal("does not end where it must", where)
    return bytes(data)


def _window_log(frame: bytes) -> int:
    """What the window's size is below, as a power of two (RFC 8878, 3.1.1.1.1 and 3.1.1.1.2)."""
    one_segment = frame[4] & 0x20
    return 0 if one_segment else 10 + (frame[5] >> 3) + (1 if frame[5] & 7 else 0)


def _refusal(what: str, where: object) -> VerificationError:
    return VerificationError(f"a zstd frame of a segment {what}", where=where, hint="ask for the whole blob")


def _prefix(zstd: Any, prefix: bytes) -> Any:
    return zstd.ZstdDict(prefix, is_raw=True).as_prefix if len(prefix) >= 8 else None


def _zstd() -> Any:
    module = zstd_module()
    if module is None:
        raise MissingPartError("deltas are compressed with zstd, which is not installed here",
                               hint="install backports.zstd, or bring the whole blob")  # fmt: skip
    return module
