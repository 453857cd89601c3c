"""Blobs being written to a store: hashed while they stream, resumable, visible only when they are whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from edgepack.errors import DigestMismatchError, NoSpaceError, SizeMismatchError, disk_errors
from edgepack.host.files import publish
from edgepack.host.ownership import give_to_owner_of
from edgepack.limits import LIMITS
from edgepack.oci.checkpoint import Checkpoint
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest


class IncomingBlob:
    """A blob being written to a file beside the blobs, locked by its writer.

    With a ``descriptor`` the bytes must match it, and what an interrupted write left is kept: ``offset`` says how many
    bytes. Without one any bytes are accepted, up to ``limit``, and named by their hash.
    Use as a context manager; nothing appears in the store before ``commit``.
    """

    def __init__(self, blobs: Path, path: Path, descriptor: Descriptor | None, limit: int = LIMITS.blob_bytes) -> None:
        self._blobs = blobs
        self._path = path
        self._descriptor = descriptor
        self._limit = limit if descriptor is None else descriptor.size
        self._hash = hashlib.sha256()
        self._done = False
        # What has no name yet is not gone on with.
        self._checkpoint = None if descriptor is None else Checkpoint(path)
        self.offset = 0

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            self._file = self._locked_file()
            self._drop_uncertain()
            while chunk := self._file.read(LIMITS.chunk_bytes):
                self._hash.update(chunk)
                self.offset += len(chunk)
            if self.offset > self._limit:
                self.restart()
        return self

    def _drop_uncertain(self) -> None:
        if self._checkpoint is None:
            return
        size = os.fstat(self._file.fileno()).st_size
        certain = self._checkpoint.certain(size)
        if certain < size:
            self._file.truncate(certain)

    def _locked_file(self) -> BinaryIO:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(fd, fcntl.LOCK_EX)
            # The writer before us may have renamed or removed the file while we waited for its lock.
            try:
                if self._path.stat().st_ino == os.fstat(fd).st_ino:
                    give_to_owner_of(self._path.parent, self._path, fd)
                    return os.fdopen(fd, "r+b")
            except FileNotFoundError:
                pass
            os.close(fd)

    def restart(self) -> None:
        """Discard what was written so far and start again."""
        self._file.seek(0)
        self._file.truncate()
        if self._checkpoint is not None:
            self._checkpoint.forget()
        self._hash = hashlib.sha256()
        self.offset = 0

    def write(self, data: bytes) -> int:
        """Append ``data``; raises ``SizeMismatchError`` past the size that the descriptor says and ``NoSpaceError``."""
        self.offset += len(data)
        if self.offset > self._limit:
            self.discard()
            raise SizeMismatchError(
                f"more than the {self._limit} bytes that its descriptor says", where=self._name, hint="fetch it again"
            )
        self._hash.update(data)
        with disk_errors(self._path):
            written = self._file.write(data)
            if self._checkpoint is not None:
                self._checkpoint.reached(self._file.fileno(), self._on_disk())
            return written

    def _on_disk(self) -> int:
        """How many bytes the kernel has; what is in the file's own buffer is not counted."""
        return self._file.raw.tell()  # type: ignore[attr-defined, no-any-return]

    def commit(self) -> tuple[Digest, int]:
        """Make the blob appear, durably; raises ``SizeMismatchError`` or ``DigestMismatchError``."""
        digest = Digest(self._hash.hexdigest())
        wanted = self._descriptor
        if wanted is not None and self.offset != wanted.size:
            raise SizeMismatchError(
                f"ends after {self.offset} of {wanted.size} bytes", where=self._name, hint="fetch it again"
            )
        if wanted is not None and digest != wanted.digest:
            self.discard()
            raise DigestMismatchError(f"the content hashes to {digest}", where=self._name, hint="fetch it again")
        with disk_errors(self._path):
            self._file.flush()
            os.utime(self._file.fileno())  # what an earlier process has left whole is used from now on
            os.fsync(self._file.fileno())
            publish(self._path, self._blobs / digest.hex)
            if self._checkpoint is not None:
                self._checkpoint.forget()
        self._done = True
        return digest, self.offset

    @property
    def _name(self) -> str:
        return "blob" if self._descriptor is None else f"blob {self._descriptor.digest}"

    def discard(self) -> None:
        """Remove what was written; nothing is kept for a later try."""
        self._path.unlink(missing_ok=True)
        if self._checkpoint is not None:
            self._checkpoint.forget()
        self._done = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # An expected blob that was cut short stays, for the next writer to go on from; unless the disk is full.
        unwanted = self._descriptor is None or self.offset == 0 or isinstance(error, NoSpaceError)
        if unwanted and not self._done:
            self.discard()
        try:
            self._file.close()
        except OSError:
            self._path.unlink(missing_ok=True)
            if error is None:
                raise
