"""PNG and JPEG bodies to the tensor of a model that takes images; Pillow does it (the extra ``edgepack[images]``)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_server.errors import BadRequest
from edge_server.models.files.manifest import InputSpec

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array

TYPES = ("image/png", "image/jpeg")
# Decoded, such an image is 150 MB of colours; larger ones are refused by their header.
MAX_PIXELS = 50_000_000
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Layout:
    """How a tensor holds an image: its channels, which come ``first`` or last, and its size.

    ``height`` and ``width`` are None where any are taken. A tensor of ``rank`` 4 has an axis for the batch before.
    """

    channels: int
    height: int | None
    width: int | None
    first: bool
    rank: int

    @classmethod
    def of(cls, spec: InputSpec) -> Layout | None:
        """The layout of an input that takes images: numbers in NCHW or NHWC, CHW or HWC, or grey rows; else None.

        Channels are 1, 3 or 4. Where both ends could be channels, they come first.
        """
        shape = spec.shape
        if shape is None or spec.unused or not (spec.dtype.startswith("float") or spec.dtype == "uint8"):
            return None
        if len(shape) == 4 and shape[0] in (None, 1):
            _, second, third, fourth = shape
            if second in _MODES and second is not None:
                return cls(second, third, fourth, True, 4)
            if fourth in _MODES and fourth is not None:
                return cls(fourth, second, third, False, 4)
        if len(shape) == 3:
            first, second, third = shape
            if first in (3, 4) and first is not None:
                return cls(first, second, third, True, 3)
            if third in _MODES and third is not None:
                return cls(third, first, second, False, 3)
            # One channel, or a batch of images without that axis: both are the same.
            if first in (None, 1):
                return cls(1, second, third, True, 3)
        return None


def read_image(body: bytes, spec: InputSpec, layout: Layout, scale: str | None) -> Array:
    """The tensor of one image: turned as its EXIF says, in the model's colours, of the model's size where it is fixed.

    ``scale`` is the value of white for a model of floating-point numbers: "1" (the default) or "255". Raises BadRequest
    415 where Pillow is not installed, 400 for what is not a PNG or JPEG, is damaged, or has too many pixels.
    """
    if scale not in (None, "1", "255"):
        raise BadRequest(f"'scale' must be 1 or 255, not {scale!r:.80}")
    pixels = _decoded(body, layout)
    if layout.channels == 1:
        pixels = pixels[:, :, np.newaxis]
    if layout.first:
        pixels = pixels.transpose(2, 0, 1)
    if layout.rank == 4:
        pixels = pixels[np.newaxis]
    if spec.dtype == "uint8":
        return np.ascontiguousarray(pixels)
    array = np.ascontiguousarray(pixels, dtype=np.float32)
    if scale != "255":
        array /= np.float32(255)
    return array.astype(spec.dtype, copy=False)


def _decoded(body: bytes, layout: Layout) -> Array:
    """Height x width x channels (without the last axis for one channel) of uint8."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise BadRequest("this server takes no images: Pillow is not installed (edgepack[images])", 415) from None
    try:
        with Image.open(io.BytesIO(body), formats=("PNG", "JPEG")) as opened:
            # Before anything is decoded: a small file may decode to gigabytes.
            if opened.width * opened.height > MAX_PIXELS:
                raise BadRequest(f"the image has {opened.width} x {opened.height} pixels, more than {MAX_PIXELS}")
            image = ImageOps.exif_transpose(opened)
            image = _in_mode(image, _MODES[layout.channels])
            size = (layout.width or image.width, layout.height or image.height)
            if size != image.size:
                image = image.resize(size, Image.Resampling.BILINEAR)
            return np.asarray(image)
    except BadRequest:
        raise
    # Decoders raise many kinds of errors for damaged files.
    except Exception:  # noqa: BLE001
        raise BadRequest("the body is not a PNG or JPEG image, or it is damaged") from None


def _in_mode(image: Any, mode: str) -> Any:
    if image.mode.startswith("I"):
        # 16 bits of grey: Pillow's own conversion cuts them off at 255.
        from PIL import Image

        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)
