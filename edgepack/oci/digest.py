"""Digests: the name of a blob is the hash of its bytes (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import errno
import hashlib
import re
from dataclasses import dataclass
from typing import BinaryIO

from edgepack.errors import DigestMismatchError, InvalidReferenceError, SizeMismatchError

_SHA256 = re.compile(r"[a-f0-9]{64}")
_IN_TEXT = re.compile(r"\b(sha256:[a-f0-9]{12})[a-f0-9]{52}\b")


@dataclass(frozen=True, order=True)
class Digest:
    """A sha256 digest. Other algorithms of the specification are refused: nothing here writes them."""

    hex: str

    algorithm = "sha256"

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Parse ``sha256:<64 hex digits>``; raises ``InvalidReferenceError``."""
        if not isinstance(text, str):
            raise InvalidReferenceError(f"{text!r} is not a digest", hint="write it as sha256:<64 hex digits>")
        algorithm, _, value = text.partition(":")
        if algorithm != "sha256" or not _SHA256.fullmatch(value):
            raise InvalidReferenceError(f"{text!r} is not a digest", hint="write it as sha256:<64 hex digits>")
        return cls(value)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The digest of ``data``."""
        return cls(hashlib.sha256(data).hexdigest())

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve hex digits, for people to read."""
        return self.hex[:12]


def short_digests(text: str) -> str:
    """A text with every digest in it as people read it; the whole ones are for programs."""
    return _IN_TEXT.sub(r"\1", text)


class VerifyingReader:
    """A stream that yields the bytes of ``source`` and fails, at its end, unless they are what was announced.

    ``read`` raises ``SizeMismatchError`` as soon as more than ``size`` bytes come or when the stream ends early, and
    ``DigestMismatchError`` when the last byte has come and the hash differs; the caller must read to the end.
    """

    def __init__(self, source: BinaryIO, digest: Digest, size: int, *, where: object | None = None) -> None:
        self._source = source
        self._digest = digest
        self._size = size
        self._where = where if where is not None else digest
        self._hash = hashlib.sha256()
        self._seen = 0

    def read(self, amount: int = -1) -> bytes:
        """Read at most ``amount`` bytes (all of them when negative)."""
        left = self._size - self._seen
        # One byte more than announced is asked for, so that a longer stream shows itself.
        try:
            data = self._source.read(left + 1 if amount < 0 else min(amount, left + 1))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # Of a disk that fails; the system does not say of which file.
            raise OSError(error.errno, error.strerror, error.filename or str(self._where)) from error
        self._seen += len(data)
        if self._seen > self._size:
            raise SizeMismatchError(
                f"more than the {self._size} bytes that its descriptor says", where=self._where, hint="fetch it again"
            )
        self._hash.update(data)
        if not data and amount != 0:
            if self._seen < self._size:
                raise SizeMismatchError(
                    f"ends after {self._seen} of {self._size} bytes", where=self._where, hint="fetch it again"
                )
            if self._hash.hexdigest() != self._digest.hex:
                raise DigestMismatchError(
                    f"the content hashes to sha256:{self._hash.hexdigest()}", where=self._where, hint="fetch it again"
                )
        return data
