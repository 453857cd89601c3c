"""Reading all of a bundle, with no store: ``verify_bundle``, which names every part that is bad or missing.

Everything that an import checks is checked, but for what depends on the device: what it holds, and what it is.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack.bundle.blobs import referrers_in
from edgepack.bundle.listing import Contents
from edgepack.bundle.media import UnreadableError, part_file
from edgepack.bundle.parts import PartList, Piece
from edgepack.bundle.read import as_verification, read_end, read_head, read_list, signers
from edgepack.bundle.rules import plan
from edgepack.bundle.tar import TarReader
from edgepack.errors import DigestMismatchError, EdgepackError, NotFoundError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.sources import BlobSource
from edgepack.signing.keys import PublicKey


@dataclass(frozen=True)
class FileVerdict:
    """What was found in a file: which part it is, if any, and what is wrong with it, if anything."""

    path: Path
    number: int | None
    size: int
    problem: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What was found in a bundle: its files, the keys that signed each image, and what else is wrong with it."""

    files: tuple[FileVerdict, ...]
    signed_by: Mapping[str, tuple[str, ...]]
    problem: str | None = None
    remark: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong with what was read."""
        return self.problem is None and all(one.problem is None for one in self.files)


def verify_bundle(paths: Iterable[Path], trusted: Collection[PublicKey], *, allow_unsigned: bool = False) -> Verdict:
    """Read the files of one bundle, each whole, and judge it by the rules of an import; raises nothing it finds."""
    files: list[FileVerdict] = []
    judged: tuple[Contents, dict[Digest, bytes], Path] | None = None
    for path in paths:
        size = path.stat().st_size if path.is_file() else 0
        number = None
        try:
            with part_file(path) as stream, as_verification(path):
                tar = TarReader(stream, path)
                found = read_list(tar, trusted, allow_unsigned, LIMITS, path)
                number = None if found.part is None else found.part.number
                head = read_head(tar, found)
                judged = judged or (found.contents, head, path)
                _read_pieces(tar, found, path)
                read_end(tar, found.contents, head)
        except (VerificationError, UnreadableError, NotFoundError) as error:
            files.append(FileVerdict(path, number, size, str(error)))
        else:
            files.append(FileVerdict(path, number, size))
    if judged is None:
        return Verdict(tuple(files), {})
    return _judge(tuple(files), judged[0], judged[1], judged[2], trusted, allow_unsigned)


def _read_pieces(tar: TarReader, found: PartList, where: Path) -> None:
    digests = found.part.digests if found.part is not None else tuple(piece.blob.digest for piece in found.pieces)
    for piece, digest in zip(found.pieces, digests, strict=True):
        tar.enter(piece.name, piece.size)
        tar.copy(piece.size, lambda member, piece=piece, digest=digest: _check(member, piece, digest, where))  # type: ignore[misc]


def _check(member: BlobSource, piece: Piece, digest: Digest, where: Path) -> None:
    seen = hashlib.sha256()
    with member.open(piece.blob) as stream:
        while chunk := stream.read(LIMITS.chunk_bytes):
            seen.update(chunk)
    if seen.hexdigest() != digest.hex:
        raise DigestMismatchError(
            f"{piece.name} hashes to sha256:{seen.hexdigest()}", where=where, hint="copy it again"
        )


def _judge(
    files: tuple[FileVerdict, ...],
    contents: Contents,
    head: Mapping[Digest, bytes],
    where: Path,
    trusted: Collection[PublicKey],
    allow_unsigned: bool,
) -> Verdict:
    source, left_out = HeadSource(head, contents), {blob.digest for blob in contents.omitted}
    signed: dict[str, tuple[str, ...]] = {}
    try:
        with as_verification(where):
            for one in contents.images:
                if one.descriptor.digest not in left_out:
                    signed[one.name] = signers(source, one.descriptor, trusted, allow_unsigned)
            if not left_out & {one.descriptor.digest for one in contents.images}:
                plan(contents, source, None, lambda blob: blob.digest in left_out, where)
    except NotFoundError as error:
        return Verdict(files, signed, remark=f"not all could be judged here: {error.what}")
    except EdgepackError as error:
        return Verdict(files, signed, problem=str(error))
    return Verdict(files, signed)


class HeadSource:
    """The head of a bundle as a place of blobs, with the attachments that its list names."""

    def __init__(self, head: Mapping[Digest, bytes], contents: Contents) -> None:
        self._head = head
        self._contents = contents

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob of the head; raises ``NotFoundError``."""
        if descriptor.digest not in self._head:
            raise NotFoundError(f"it leaves {descriptor.digest} out, which its receiver has")
        yield io.BytesIO(self._head[descriptor.digest][offset:])

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The attachments that the list names."""
        return referrers_in(self._contents, subject, artifact_type)
