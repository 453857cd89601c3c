"""Parts of a bundle: how it is divided, and what the signed list of a part says (schema ``edgepack.bundle/v1``).

A bundle is a set of parts. What it brings, its ``Contents``, is its identity; each part is a tar that stands alone:
its own signed list, which is the contents and ``part``; the head, so that each part can be verified without another
one; then its pieces. A piece is a layer, or a stretch of one that is larger than a part. Every part says how all are
divided, so that whoever holds one can name those that are missing, and has the hashes of its own pieces, so that it
can be found bad alone. A bundle in one part has no ``part``, and is the tar that it was before there were parts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.bundle.listing import Contents
from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import InvalidDocumentError, UsageError
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.tar.header import BLOCK, END, padding, tar_header

MOST_PARTS = 999
SUFFIX = ".bundle"
PART_NAME = re.compile(r".*\.part(\d{1,3})of(\d{1,3})\.bundle")
"""What the file of a part is called; whoever reads it goes by its list."""
# What a piece takes in a list, with its hash, as JSON in base64; more than it ever does.
_PIECE_BYTES = 512
_LIST_BYTES = 4096


@dataclass(frozen=True)
class Piece:
    """``size`` bytes of ``blob`` from ``offset`` on: all of it, or a stretch."""

    blob: Descriptor
    offset: int
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the blob."""
        return self.size == self.blob.size

    @property
    def name(self) -> str:
        """The member of the tar that holds it."""
        if self.is_whole:
            return f"blobs/sha256/{self.blob.digest.hex}"
        return f"pieces/{self.blob.digest.hex}.{self.offset}"

    def to_json(self) -> dict[str, Any]:
        """The piece as a list has it; what is called so is described among the blobs of the same list."""
        return {"blob": str(self.blob.digest), "offset": self.offset, "size": self.size}


Layout = tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True)
class Part:
    """The part ``number``, counted from 1, of a bundle that is divided as ``layout`` says.

    ``digests`` are the hashes of its own pieces; no part is larger than ``size`` bytes, which it was made for.
    """

    number: int
    size: int
    layout: Layout
    digests: tuple[Digest, ...]

    @property
    def of(self) -> int:
        """How many parts there are."""
        return len(self.layout)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What it brings, in the order of its tar."""
        return self.layout[self.number - 1]

    def __str__(self) -> str:
        return f"part {self.number} of {self.of}"

    def to_json(self) -> dict[str, Any]:
        """The part as its list has it."""
        return {
            "number": self.number,
            "size": self.size,
            "layout": [[piece.to_json() for piece in pieces] for pieces in self.layout],
            "digests": list(map(str, self.digests)),
        }


@dataclass(frozen=True)
class PartList:
    """What the signed list at the head of a tar says: what the bundle brings, and which ``part`` of it this is."""

    contents: Contents
    part: Part | None = None

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The layers, or stretches of them, that are in this tar, in its order."""
        return self.part.pieces if self.part is not None else whole(self.contents.body)

    @property
    def names(self) -> tuple[str, ...]:
        """The members of blobs and pieces, in the order of the tar."""
        return (*(piece.name for piece in whole(self.contents.head)), *(piece.name for piece in self.pieces))

    def to_bytes(self) -> bytes:
        """The canonical JSON of the list."""
        data = self.contents.to_bytes()
        return data if self.part is None else canonical_json(json.loads(data) | {"part": self.part.to_json()})

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "bundle list") -> PartList:
        """Read a list; raises ``InvalidDocumentError`` with every violation."""
        value = parse_object(data, where)
        if "part" not in value:
            return cls(Contents.from_bytes(data, where))
        part = value.pop("part")
        contents = Contents.from_bytes(canonical_json(value), where)
        found = cls(contents, _part(part, contents, where))
        if found.to_bytes() != data:
            raise InvalidDocumentError(
                where, ["is not written as a bundle's list is: its fields sorted, and no others"]
            )
        return found


def identity(contents: Contents) -> Digest:
    """The digest of a bundle, which all of its parts have in common."""
    return Digest.of(contents.to_bytes())


def whole(blobs: Iterable[Descriptor]) -> tuple[Piece, ...]:
    """Each blob as one piece."""
    return tuple(Piece(blob, 0, blob.size) for blob in blobs)


def member_bytes(name: str, size: int) -> int:
    """What a member takes in a tar."""
    return len(tar_header(name, size=size)) + size + len(padding(size))


def divide(contents: Contents, part_size: int, head_bytes: int) -> Layout:
    """How to divide ``contents`` into parts of at most ``part_size`` bytes, in which the head takes ``head_bytes``.

    Layers stay whole where they fit into a part; of those that do not, the stretches fill parts. Raises ``UsageError``
    when so little fits into a part that there would be too many.
    """
    body = contents.body
    total = sum(member_bytes(piece.name, piece.size) for piece in whole(body))
    list_bytes = _LIST_BYTES + 2 * len(contents.to_bytes()) + _PIECE_BYTES * len(body)
    fixed = head_bytes + list_bytes + len(END) + 4 * BLOCK
    room = part_size - fixed
    before = 0
    while room != before:  # the list grows with the number of parts, and the room shrinks with the list
        before, room = room, part_size - fixed - 2 * _PIECE_BYTES * (total // max(room, 1) + 2)
        if room < 8 * BLOCK or total // room >= MOST_PARTS:
            # Where r + 1024 * total / r is least, and somewhat more.
            least = fixed + 16 * BLOCK + 3 * math.isqrt(2 * _PIECE_BYTES * total) + total // (MOST_PARTS // 2)
            raise UsageError(
                f"parts of {part_size} bytes are too small for this bundle", where="--part-size",
                hint=f"give at least {-(-least // 1000)}kB",
            )  # fmt: skip
    parts: list[list[Piece]] = [[]]
    left = room
    for blob in body:
        piece = Piece(blob, 0, blob.size)
        needed = member_bytes(piece.name, piece.size)
        if needed <= room:
            if needed > left:
                parts.append([])
                left = room
            parts[-1].append(piece)
            left -= needed
            continue
        offset = 0
        while offset < blob.size:
            if left < room // 8:  # a stretch that is hardly worth its header
                parts.append([])
                left = room
            # A header of a stretch has at most three blocks, where a PAX header says its length.
            size = min(blob.size - offset, (left // BLOCK - 3) * BLOCK)
            parts[-1].append(Piece(blob, offset, size))
            left -= member_bytes(parts[-1][-1].name, size)
            offset += size
    return tuple(tuple(one) for one in parts if one)


def _part(value: Any, contents: Contents, where: object) -> Part:
    violations: list[str] = []
    fields = Fields(value, "part", violations)
    number, size = fields.take("number", int, required=True), fields.take("size", int, required=True)
    known = {blob.digest: blob for blob in contents.body}
    layout = fields.read_each("layout", lambda part, at: _pieces(part, at, known))
    digests = fields.read_each("digests", _digest)
    fields.finish()
    raise_all(where, violations)
    if contents.docker:
        raise InvalidDocumentError(where, ["docker is for a bundle in one part"])
    part = Part(number or 0, size or 0, layout, digests)
    if not 1 <= part.number <= part.of or not 2 <= part.of <= MOST_PARTS:
        raise InvalidDocumentError(where, [f"part.number must be from 1 to {part.of}, of at most {MOST_PARTS} parts"])
    if len(part.digests) != len(part.pieces):
        raise InvalidDocumentError(where, ["part.digests must have one hash for each piece of this part"])
    if not _covers(part.layout, contents):
        raise InvalidDocumentError(where, ["part.layout must have every byte of every layer once, in their order"])
    wrong = [
        piece.name
        for piece, digest in zip(part.pieces, part.digests, strict=True)
        if piece.is_whole and digest != piece.blob.digest
    ]
    raise_all(where, [f"part.digests has another hash for {name} than its name" for name in wrong])
    return part


def _pieces(value: Any, where: str, known: Mapping[Digest, Descriptor]) -> tuple[Piece, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidDocumentError(where, ["must be a list of pieces"])
    found = []
    for number, one in enumerate(value):
        violations: list[str] = []
        fields = Fields(one, f"{where}[{number}]", violations)
        blob = fields.parsed("blob", Digest.parse)
        offset, size = fields.take("offset", int, required=True), fields.take("size", int, required=True)
        fields.finish()
        if blob is not None and blob not in known:
            fields.wrong("blob", "must be a layer of this bundle")
        raise_all(where, violations)
        assert blob is not None  # noqa: S101 - it was said to be missing
        found.append(Piece(known[blob], offset or 0, size or 0))
    return tuple(found)


def _covers(layout: Layout, contents: Contents) -> bool:
    pieces = iter(piece for part in layout for piece in part)
    for blob in contents.body:
        at = 0
        while True:
            piece = next(pieces, None)
            if piece is None or piece.blob != blob or piece.offset != at or piece.size < (blob.size > 0):
                return False
            at += piece.size
            if at >= blob.size:
                break
        if at != blob.size:
            return False
    return next(pieces, None) is None


def _digest(value: object, where: str) -> Digest:
    if not isinstance(value, str):
        raise InvalidDocumentError(where, ["must be a digest"])
    return Digest.parse(value)


@dataclass(frozen=True)
class Wanted:
    """Parts that are missing or bad where a bundle is imported (schema ``edgepack.wanted/v1``): "bring me this".

    It has what makes the same bundle again: the tags, the platform, the size of a part, and what the bundle left out.
    """

    bundle: Digest
    parts: tuple[int, ...]
    of: int
    part_size: int
    images: tuple[str, ...]
    omitted: tuple[Digest, ...] = ()
    platform: str | None = None

    SCHEMA = "edgepack.wanted/v1"

    @classmethod
    def of_parts(cls, contents: Contents, part: Part, numbers: Iterable[int]) -> Wanted:
        """The parts ``numbers`` of the bundle of which ``part`` is one."""
        return cls(
            bundle=identity(contents),
            parts=tuple(sorted(numbers)),
            of=part.of,
            part_size=part.size,
            images=tuple(one.name for one in contents.images),
            omitted=tuple(blob.digest for blob in contents.omitted),
            platform=None if contents.platform is None else str(contents.platform),
        )

    def to_bytes(self) -> bytes:
        """Its canonical JSON."""
        return canonical_json(
            {
                "schema": self.SCHEMA,
                "bundle": str(self.bundle),
                "parts": list(self.parts),
                "of": self.of,
                "part_size": self.part_size,
                "images": list(self.images),
                "omitted": list(map(str, self.omitted)),
                "platform": self.platform,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "wanted parts") -> Wanted:
        """Read it; raises ``InvalidDocumentError`` with every violation."""
        hint = "edge-agent import --bring-me FILE writes one"
        violations: list[str] = []
        fields = Fields(parse_object(data, where, hint=hint), "", violations)
        fields.schema(cls.SCHEMA)
        bundle = fields.parsed("bundle", Digest.parse) or Digest("0" * 64)
        parts = fields.read_each("parts", _number)
        of, size = fields.take("of", int, required=True), fields.take("part_size", int, required=True)
        images = fields.read_each("images", _text)
        omitted = fields.read_each("omitted", _digest)
        platform = fields.take("platform", str)
        fields.finish()
        raise_all(where, violations, hint=hint)
        return cls(bundle, parts, of or 0, size or 0, images, omitted, platform)


def _number(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidDocumentError(where, ["must be the number of a part"])
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidDocumentError(where, ["must be text"])
    return value


def numbers(found: Iterable[int]) -> str:
    """``part 7`` or ``parts 2, 7``."""
    listed = sorted(set(found))
    return f"part{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"
