"""Arrays of numbers by their differences from others: what fine-tuning leaves of a network.

The bits of floats are mapped to integers that grow as the floats do; the difference modulo the word is small where the
float moved little. Differences are folded (0, -1, 1, -2 ... become 0, 1, 2, 3 ...), ordered by the exponent of the
*base*, which both sides know, and cut in planes of bytes, the most significant first: equal things then lie together
for a compressor. Without numpy the arithmetic is that of one large integer with a lane for each element.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, Literal

from edgepack.deltas.format import WIDTHS

# Where the exponent is in the bits of a float, and how much of it orders: at most a byte.
_EXPONENTS = {"f64": (52, 0xFF), "f32": (23, 0xFF), "f16": (10, 0x1F), "bf16": (7, 0xFF)}
_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
# How many elements are calculated at once without numpy.
_LANES = 1 << 15


def encode(kind: str, base: bytes, result: bytes, *, numpy: bool = True) -> bytes:
    """The planes from which ``decode`` makes ``result`` of ``base``; both have the same number of elements."""
    if numpy and (np := _numpy()) is not None:
        return _encode_numpy(np, kind, base, result)
    width = WIDTHS[kind]
    folded = b"".join(_fold(kind, base[at:end], result[at:end]) for at, end in _blocks(len(base), width))
    keys = _keys(kind, base)
    if keys is not None:
        values = memoryview(folded).cast(_CODES[width])
        order = sorted(range(len(keys)), key=keys.__getitem__)
        folded = array(_CODES[width], map(values.__getitem__, order)).tobytes()
    return b"".join(folded[plane::width] for plane in reversed(range(width)))


def decode(kind: str, base: bytes, planes: bytes, *, numpy: bool = True) -> Iterator[bytes]:
    """The bytes that ``encode`` was given as ``result``, in pieces; ``planes`` has the length of ``base``."""
    if numpy and (np := _numpy()) is not None:
        yield _decode_numpy(np, kind, base, planes)
        return
    width = WIDTHS[kind]
    count = len(base) // width
    joined = bytearray(len(base))
    for at, plane in enumerate(reversed(range(width))):
        joined[plane::width] = planes[at * count : (at + 1) * count]
    del planes
    folded: bytes | bytearray = joined
    keys = _keys(kind, base)
    if keys is not None:
        folded = _unordered(joined, keys, width)
    del joined
    for at, end in _blocks(len(base), width):
        yield _unfold(kind, base[at:end], folded[at:end])


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def _blocks(length: int, width: int) -> Iterator[tuple[int, int]]:
    step = _LANES * width
    return ((at, min(at + step, length)) for at in range(0, length, step))


def _keys(kind: str, base: bytes) -> bytes | None:
    """The exponent of each element, where there are any."""
    if kind not in _EXPONENTS:
        return None
    width, (shift, mask) = WIDTHS[kind], _EXPONENTS[kind]
    low, bits = divmod(shift, 8)
    # The byte's upper bits and the next one's lower bits; the sign is masked out.
    lower = base[low::width].translate(bytes((value >> bits) & mask for value in range(256)))
    if low + 1 == width:
        return lower
    upper = base[low + 1 :: width].translate(bytes((value << (8 - bits)) & mask for value in range(256)))
    count = len(lower)
    return (int.from_bytes(lower, "little") | int.from_bytes(upper, "little")).to_bytes(count, "little")


def _unordered(ordered: bytearray, keys: bytes, width: int) -> bytes:
    """The elements back in the places whose keys they were ordered by."""
    view = memoryview(ordered).cast(_CODES[width])
    of_key: dict[int, Iterator[int]] = {}
    at = 0
    for key in range(256):
        if count := keys.count(key):
            of_key[key] = iter(view[at : at + count])
            at += count
    return array(_CODES[width], map(next, map(of_key.__getitem__, keys))).tobytes()


class _Lanes:
    """``count`` elements of ``width`` bytes in one integer, each in a lane of twice its width."""

    def __init__(self, width: int, count: int) -> None:
        self.width, self.count, self.bits = width, count, 8 * width
        lane = b"\x01" + bytes(2 * width - 1)
        self.ones = int.from_bytes(lane * count, "little")
        self.full = self.spread(self.ones)
        self.top = self.ones << (self.bits - 1)

    def spread(self, flags: int) -> int:
        """All bits of the element in each lane in which the lowest bit is set."""
        return (flags << self.bits) - flags

    def load(self, data: bytes | bytearray) -> int:
        wide = bytearray(2 * len(data))
        for at in range(self.width):
            wide[at :: 2 * self.width] = data[at :: self.width]
        return int.from_bytes(wide, "little")

    def store(self, value: int) -> bytes:
        wide = value.to_bytes(2 * self.width * self.count, "little")
        data = bytearray(self.width * self.count)
        for at in range(self.width):
            data[at :: self.width] = wide[at :: 2 * self.width]
        return bytes(data)

    def signs(self, value: int) -> int:
        """The highest bit of each element, as the lowest."""
        return (value >> (self.bits - 1)) & self.ones

    def ranked(self, bits: int) -> int:
        """The bits of floats as integers that grow with them."""
        return bits ^ (self.spread(self.signs(bits)) | self.top)

    def unranked(self, ranks: int) -> int:
        positive = self.spread(self.signs(ranks))
        return ranks ^ (self.full ^ positive | self.top)


def _fold(kind: str, base: bytes, result: bytes) -> bytes:
    lanes = _Lanes(WIDTHS[kind], len(base) // WIDTHS[kind])
    old, new = lanes.load(base), lanes.load(result)
    if kind in _EXPONENTS:
        old, new = lanes.ranked(old), lanes.ranked(new)
    difference = (new + (lanes.full ^ old) + lanes.ones) & lanes.full
    return lanes.store((difference << 1) & lanes.full ^ lanes.spread(lanes.signs(difference)))


def _unfold(kind: str, base: bytes, folded: bytes | bytearray) -> bytes:
    lanes = _Lanes(WIDTHS[kind], len(base) // WIDTHS[kind])
    old, value = lanes.load(base), lanes.load(folded)
    difference = (value >> 1) & (lanes.full ^ lanes.top) ^ lanes.spread(value & lanes.ones)
    if kind not in _EXPONENTS:
        return lanes.store((old + difference) & lanes.full)
    return lanes.store(lanes.unranked((lanes.ranked(old) + difference) & lanes.full))


# With numpy


def _encode_numpy(np: Any, kind: str, base: bytes, result: bytes) -> bytes:
    width = WIDTHS[kind]
    old, new = (np.frombuffer(data, f"<u{width}") for data in (base, result))
    order = _order_numpy(np, kind, old)
    if kind in _EXPONENTS:
        old, new = _ranked_numpy(np, old), _ranked_numpy(np, new)
    difference = new - old
    one = np.array(1, old.dtype)
    folded = (difference << one) ^ (np.array(0, old.dtype) - (difference >> np.array(8 * width - 1, old.dtype)))
    if order is not None:
        folded = folded[order]
    rows = folded.astype(f"<u{width}").view(np.uint8).reshape(-1, width)
    return bytes(np.ascontiguousarray(rows[:, ::-1].T).tobytes())


def _decode_numpy(np: Any, kind: str, base: bytes, planes: bytes) -> bytes:
    width = WIDTHS[kind]
    old = np.frombuffer(base, f"<u{width}")
    rows = np.frombuffer(planes, np.uint8).reshape(width, -1).T[:, ::-1]
    folded = np.ascontiguousarray(rows).view(f"<u{width}").reshape(-1)
    order = _order_numpy(np, kind, old)
    if order is not None:
        placed = np.empty_like(folded)
        placed[order] = folded
        folded = placed
    one = np.array(1, old.dtype)
    difference = (folded >> one) ^ (np.array(0, old.dtype) - (folded & one))
    if kind not in _EXPONENTS:
        return bytes((old + difference).astype(f"<u{width}").tobytes())
    ranks = _ranked_numpy(np, old) + difference
    top = np.array(1 << (8 * width - 1), old.dtype)
    return bytes(np.where(ranks & top, ranks ^ top, ~ranks).astype(f"<u{width}").tobytes())


def _ranked_numpy(np: Any, bits: Any) -> Any:
    top = np.array(1 << (8 * bits.dtype.itemsize - 1), bits.dtype)
    return np.where(bits & top, ~bits, bits | top)


def _order_numpy(np: Any, kind: str, bits: Any) -> Any:
    if kind not in _EXPONENTS:
        return None
    shift, mask = _EXPONENTS[kind]
    keys = ((bits >> np.array(shift, bits.dtype)) & np.array(mask, bits.dtype)).astype(np.uint8)
    return np.argsort(keys, kind="stable")
