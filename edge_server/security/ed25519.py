"""Ed25519 signatures, verified in plain Python: RFC 8032, section 5.1, without a library of several megabytes.

Only public values are handled, so the time may depend on them. Nothing is signed here.
The key's multiples are computed once, so a verification is 250 additions of points, about a millisecond.
"""

from __future__ import annotations

from hashlib import sha512

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)

# x, y, z, t of the extended coordinates: the point is (x/z, y/z), and t = x*y/z.
Point = tuple[int, int, int, int]
_ZERO: Point = (0, 1, 1, 0)


class PublicKey:
    """A public key of 32 bytes.

    Raises ValueError when it is not a point of the curve, is not in canonical form, or has a small order: with such a
    key, signatures that fit any message could be made without a secret.
    """

    def __init__(self, encoded: bytes) -> None:
        point = _decode(encoded)
        multiple = point
        for _ in range(3):
            multiple = _add(multiple, multiple)
        if _encode(multiple) == _encode(_ZERO):
            raise ValueError("a point of small order")
        self._encoded = encoded
        x, y, z, t = point
        self._negative = _doublings((-x % _P, y, z, -t % _P))
        self._base = _doublings(_BASE)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature is this key's, in the one valid form that every signature has."""
        if len(signature) != 64:
            return False
        scalar = int.from_bytes(signature[32:], "little")
        if scalar >= _ORDER:  # section 5.1.7: otherwise anyone could make a second signature out of a first
            return False
        challenge = int.from_bytes(sha512(signature[:32] + self._encoded + message).digest(), "little") % _ORDER
        # R must be S*B - k*A. Comparing the encoded form refuses other encodings of it.
        point = _sum(self._negative, challenge, _sum(self._base, scalar, _ZERO))
        return _encode(point) == signature[:32]


def _add(a: Point, b: Point) -> Point:
    """Add two points; the same formula holds for any two, equal ones included (section 5.1.4)."""
    ax, ay, az, at = a
    bx, by, bz, bt = b
    minus = (ay - ax) * (by - bx) % _P
    plus = (ay + ax) * (by + bx) % _P
    t = 2 * at * bt * _D % _P
    z = 2 * az * bz % _P
    e, f, g, h = plus - minus, z - t, z + t, plus + minus
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _doublings(point: Point) -> list[Point]:
    """The point, its double, four times it, and so on for each bit of a scalar."""
    doublings = [point]
    for _ in range(_ORDER.bit_length() - 1):
        doublings.append(_add(doublings[-1], doublings[-1]))
    return doublings


def _sum(doublings: list[Point], scalar: int, total: Point) -> Point:
    """``total`` and ``scalar`` times the point."""
    for point in doublings:
        if scalar & 1:
            total = _add(total, point)
        scalar >>= 1
    return total


def _encode(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    return (y * inverse % _P | (x * inverse % _P & 1) << 255).to_bytes(32, "little")


def _decode(encoded: bytes) -> Point:
    """Read a point as section 5.1.3 says."""
    if len(encoded) != 32:
        raise ValueError("not 32 bytes")
    number = int.from_bytes(encoded, "little")
    y, odd = number & ((1 << 255) - 1), number >> 255
    if y >= _P:
        raise ValueError("a number that is too large")
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if x * x % _P != square:
        raise ValueError("not a point of the curve")
    if x == 0 and odd:
        raise ValueError("zero with a sign")
    if x & 1 != odd:
        x = _P - x
    return x, y, 1, x * y % _P


_BASE = _decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
