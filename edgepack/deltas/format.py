"""The description at the head of a delta (schema ``edgepack.delta/v1``): what it is made of, in the result's order.

A delta is one file: ``MAGIC``, the length of the description in four bytes, most significant first, the description as
canonical JSON, and then what its segments have stored, in their order and with nothing between or after them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from edgepack.documents import Fields, canonical_json, parse_canonical, raise_all
from edgepack.errors import CutShortError, InvalidDocumentError, SizeMismatchError, TooLargeError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest

SCHEMA = "edgepack.delta/v1"
MAGIC = b"edgepack-delta\x00\x01"
_LENGTH = struct.Struct(">I")
# How a blob is stored: its content as it is, or compressed.
PLAIN, GZIP, ZSTD = "plain", "gzip", "zstd"
# The kinds of elements whose differences are stored, and their bytes.
WIDTHS = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "i64": 8, "i32": 4, "i16": 2, "i8": 1}
_AGAIN = "ask for the whole blob"


@dataclass(frozen=True)
class Content:
    """The bytes that segments are of: the blob's own, or what it unpacks to."""

    digest: Digest
    size: int


@dataclass(frozen=True)
class Blob:
    """A blob, how it is stored, and its ``content``. ``level`` is that of libdeflate, for a result in gzip."""

    digest: Digest
    size: int
    form: str
    content: Content
    level: int | None = None

    @classmethod
    def plain(cls, digest: Digest, size: int) -> Blob:
        """A blob whose content is the blob."""
        return cls(digest, size, PLAIN, Content(digest, size))

    def to_json(self) -> dict[str, Any]:
        """The object of the description."""
        found: dict[str, Any] = {"digest": str(self.digest), "size": self.size, "form": self.form}
        if self.form != PLAIN:
            found["content"] = {"digest": str(self.content.digest), "size": self.content.size}
        if self.level is not None:
            found["level"] = self.level
        return found


@dataclass(frozen=True)
class Copy:
    """``length`` bytes of the base from ``offset`` on."""

    name: ClassVar[str] = "copy"
    offset: int
    length: int

    stored = 0
    window = property(lambda self: self.length)

    @property
    def memory(self) -> int:
        """Bytes that are held while it is applied."""
        return min(self.length, LIMITS.chunk_bytes)


@dataclass(frozen=True)
class Patch:
    """``length`` bytes, of which ``stored`` are a zstd frame whose prefix are ``window`` bytes of the base."""

    name: ClassVar[str] = "patch"
    offset: int
    window: int
    length: int
    stored: int

    @property
    def memory(self) -> int:
        """The window, which zstd copies; the frame; and the output, while it is joined."""
        return 2 * self.window + self.stored + 2 * self.length


@dataclass(frozen=True)
class Difference:
    """``length`` bytes: elements of ``kind`` and as many of the base, by their differences."""

    name: ClassVar[str] = "difference"
    kind: str
    offset: int
    length: int
    stored: int

    @property
    def window(self) -> int:
        """What is read of the base."""
        return self.length

    @property
    def memory(self) -> int:
        """The base, the planes, their elements in two orders, and what calculates."""
        return self.stored + 6 * self.length + (6 << 20)


@dataclass(frozen=True)
class Whole:
    """``length`` bytes that need no base: a zstd frame, or the bytes themselves where as many are stored."""

    name: ClassVar[str] = "whole"
    length: int
    stored: int

    offset = 0
    window = 0

    @property
    def memory(self) -> int:
        """The frame, and the output while it is joined."""
        return self.stored + 2 * self.length


Segment = Copy | Patch | Difference | Whole
_SHAPES: dict[str, tuple[type[Segment], tuple[type, ...]]] = {
    Copy.name: (Copy, (int, int)),
    Patch.name: (Patch, (int, int, int, int)),
    Difference.name: (Difference, (str, int, int, int)),
    Whole.name: (Whole, (int, int)),
}


@dataclass(frozen=True)
class Description:
    """What a delta makes of what."""

    base: Blob
    result: Blob
    segments: tuple[Segment, ...]

    @property
    def stored(self) -> int:
        """How many bytes follow the description."""
        return sum(one.stored for one in self.segments)

    @property
    def memory(self) -> int:
        """Bytes that applying needs at most, with those of a Python that does nothing else."""
        described = len(self.segments) * LIMITS.delta_segment_memory
        return LIMITS.delta_python_bytes + described + max((one.memory for one in self.segments), default=0)

    def to_bytes(self) -> bytes:
        """The canonical JSON."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "base": self.base.to_json(),
                "result": self.result.to_json(),
                "memory": self.memory,
                "segments": [_row(one) for one in self.segments],
            }
        )

    def head(self) -> bytes:
        """All of a delta but what its segments have stored; raises ``TooLargeError`` for what none would read."""
        data = self.to_bytes()
        if len(data) > LIMITS.delta_description_bytes:
            raise TooLargeError(f"a description of {len(data)} bytes", where=f"delta of {self.result.digest}")
        return MAGIC + _LENGTH.pack(len(data)) + data

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "delta") -> Description:
        """Read a description; raises ``InvalidDocumentError`` with what is wrong in it."""
        violations: list[str] = []
        fields = Fields(parse_canonical(data, where), "", violations)
        fields.schema(SCHEMA)
        base = _blob(fields.child("base"), levels=False)
        result = _blob(fields.child("result"), levels=True)
        memory = fields.take("memory", int, required=True)
        rows = fields.take("segments", list, required=True) or []
        fields.finish()
        raise_all(where, violations)
        if base is None or result is None:
            raise InvalidDocumentError(where, ["names no base or no result"])
        found = cls(base, result, tuple(_segment(row, at, where) for at, row in enumerate(rows)))
        raise_all(where, _violations(found))
        if memory != found.memory:
            raise InvalidDocumentError(where, [f"memory is {memory}, and its segments need {found.memory}"])
        return found


def read_description(delta: BinaryIO, where: object = "delta") -> Description:
    """The description of the delta that ``delta`` yields, which is then at what its segments have stored.

    Raises ``VerificationError``: anything that is not as ``edgepack.deltas.make`` writes it.
    """
    head = exactly(delta, len(MAGIC) + _LENGTH.size, where)
    if not head.startswith(MAGIC):
        raise VerificationError("is not a delta of a version that is read here", where=where, hint=_AGAIN)
    (length,) = _LENGTH.unpack(head[len(MAGIC) :])
    if length > LIMITS.delta_description_bytes:
        raise TooLargeError(f"its description has {length} bytes", where=where, hint=_AGAIN)
    try:
        return Description.from_bytes(exactly(delta, length, where), where)
    except InvalidDocumentError as error:
        raise VerificationError(str(error), where=None, hint=_AGAIN) from error


def exactly(stream: BinaryIO, amount: int, where: object) -> bytes:
    """The next ``amount`` bytes; raises ``CutShortError``."""
    parts: list[bytes] = []
    left = amount
    while left and (data := stream.read(min(left, LIMITS.chunk_bytes))):
        parts.append(data)
        left -= len(data)
    if left:
        raise CutShortError("is cut short", where=where, hint=_AGAIN)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def check_end(delta: BinaryIO, where: object) -> None:
    """Raise ``SizeMismatchError`` unless the delta ends here."""
    if delta.read(1):
        raise SizeMismatchError("has bytes after its last segment", where=where, hint=_AGAIN)


def _row(segment: Segment) -> list[object]:
    if isinstance(segment, Copy):
        return [segment.name, segment.offset, segment.length]
    if isinstance(segment, Patch):
        return [segment.name, segment.offset, segment.window, segment.length, segment.stored]
    if isinstance(segment, Difference):
        return [segment.name, segment.kind, segment.offset, segment.length, segment.stored]
    return [segment.name, segment.length, segment.stored]


def _segment(row: object, at: int, where: object) -> Segment:
    name = row[0] if isinstance(row, list) and row else None
    made, kinds = _SHAPES.get(name, (Whole, ())) if isinstance(name, str) else (Whole, ())
    values: Sequence[Any] = row[1:] if isinstance(row, list) else ()
    if not kinds or tuple(map(type, values)) != kinds:
        raise InvalidDocumentError(where, [f"segments[{at}] is none of {', '.join(sorted(_SHAPES))}"])
    if any(isinstance(value, int) and not 0 <= value <= LIMITS.blob_bytes for value in values):
        raise InvalidDocumentError(where, [f"segments[{at}] has a number that is not a size"])
    return made(*values)


def _blob(fields: Fields, *, levels: bool) -> Blob | None:
    digest = fields.parsed("digest", Digest.parse)
    size = _size(fields, "size")
    form = fields.take("form", str, required=True)
    level = None
    if form == PLAIN:
        content = None if digest is None or size is None else Content(digest, size)
    else:
        allowed = (GZIP,) if levels else (GZIP, ZSTD)
        if form not in (None, *allowed):
            fields.wrong("form", f"must be {PLAIN} or {' or '.join(allowed)}")
        inner = fields.child("content")
        inner_digest, inner_size = inner.parsed("digest", Digest.parse), _size(inner, "size")
        inner.finish()
        content = None if inner_digest is None or inner_size is None else Content(inner_digest, inner_size)
        if levels:
            level = fields.take("level", int, required=True)
            if level is not None and not 1 <= level <= 12:
                fields.wrong("level", "must be from 1 to 12")
    fields.finish()
    if digest is None or size is None or form is None or content is None:
        return None
    return Blob(digest, size, form, content, level)


def _size(fields: Fields, key: str) -> int | None:
    found = fields.take(key, int, required=True)
    if found is not None and not 0 <= found <= LIMITS.blob_bytes:
        fields.wrong(key, "must be a size")
        return None
    return found


def _violations(found: Description) -> list[str]:
    wrong = []
    total = 0
    for at, one in enumerate(found.segments):
        name = f"segments[{at}]"
        total += one.length
        if not one.length:
            wrong.append(f"{name} is empty")
        if one.offset + one.window > found.base.content.size:
            wrong.append(f"{name} reads past the end of its base")
        if not isinstance(one, Copy):
            if one.length > LIMITS.delta_segment_bytes:
                wrong.append(f"{name} makes more than {LIMITS.delta_segment_bytes} bytes")
            if not 0 < one.stored <= one.length:
                wrong.append(f"{name} must store something, and no more than it makes")
        if isinstance(one, Patch) and one.window + one.length > LIMITS.delta_window_bytes:
            wrong.append(f"{name} needs a window of more than {LIMITS.delta_window_bytes} bytes")
        if isinstance(one, Difference) and (one.kind not in WIDTHS or one.length % WIDTHS[one.kind]):
            wrong.append(f"{name} is not of whole elements of {', '.join(WIDTHS)}")
        if len(wrong) >= LIMITS.shown_violations:
            break
    else:
        if total != found.result.content.size:
            wrong.append(f"its segments make {total} bytes, and its result has {found.result.content.size}")
    return wrong
