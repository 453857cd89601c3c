"""Where each file of a seekable tar is, so that files can be read at random without unpacking any.

Nothing is written: a link is only a second name of a file in the same archive.
"""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import shlex
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO, Self

from edgepack.errors import NotFoundError, UnsafeArchiveError, UsageError, VerificationError, disk_errors
from edgepack.host.inputs import kind_of
from edgepack.limits import LIMITS
from edgepack.oci.tar.stream import Member, TarStream, checked_kind

_GZIP = b"\x1f\x8b"
# By how they begin, what is not unpacked here, and the programs that do it.
_PROGRAMS = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zX": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4"}


class Span(io.RawIOBase):
    """``size`` bytes of an open file from ``start`` on. Many may be read at once: they share no position."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd = fd
        self._position = start
        self._end = start + size

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill ``buffer`` from the file; less at the end."""
        data = os.pread(self._fd, min(len(buffer), self._end - self._position), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Headers:
    """Lets ``TarStream`` read the headers of a file; the contents between them are passed over, not read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = file.seek(0, io.SEEK_END)
        self._skip = 0
        self._zeros = memoryview(bytes(LIMITS.chunk_bytes))
        self.position = 0

    def pass_over(self, amount: int) -> None:
        self._skip = amount

    def read(self, amount: int) -> bytes:
        amount = min(amount, self._end - self.position)
        if self._skip:
            amount = min(amount, self._skip, LIMITS.chunk_bytes)
            self._skip -= amount
            data = bytes(self._zeros[:amount])
        else:
            self._file.seek(self.position)
            data = self._file.read(amount)
        self.position += len(data)
        return data


class TarIndex:
    """The files of the tar at ``path``, by their normal names (no ``./``); use as a context manager.

    What comes out of a pipe, and what a gzip-compressed tar unpacks to, is kept in a nameless temporary file, that of a
    tar beside ``path`` where that can be written; at most ``limit`` bytes. Raises ``NotFoundError`` when there is no
    such file, ``UsageError`` when it is compressed otherwise, ``UnsafeArchiveError`` for names that climb or are listed
    twice, links that leave the archive, device nodes and damaged or cut headers, ``NoSpaceError``.
    """

    def __init__(self, path: Path, limit: int = LIMITS.archive_unpacked_bytes) -> None:
        self.path = path
        # Whether the end is marked; a tar that was cut between two files looks whole otherwise.
        self.ended = False
        self._file = _uncompressed(path, limit)
        try:
            self._places, links = self._scan()
            for name, target in links.items():
                self._places[name] = self._follow(name, target, links)
        except BaseException:
            self._file.close()
            raise

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size in bytes of every file."""
        return MappingProxyType({name: size for name, (_, size) in self._places.items()})

    @contextmanager
    def open(self, name: str, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of the file from ``offset`` on; raises ``NotFoundError``."""
        if name not in self._places:
            raise NotFoundError(f"{name!r} is missing", where=self.path)
        start, size = self._places[name]
        with io.BufferedReader(
            Span(self._file.fileno(), start + offset, max(size - offset, 0)), LIMITS.chunk_bytes
        ) as stream:
            yield stream

    def read(self, name: str, limit: int) -> bytes:
        """All bytes of a small file; raises ``NotFoundError``, and ``VerificationError`` when it is over ``limit``."""
        with self.open(name) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise VerificationError(f"{name!r} is larger than {limit} bytes", where=self.path)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _scan(self) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        headers = _Headers(self._file)
        places: dict[str, tuple[int, int]] = {}
        links: dict[str, str] = {}
        folders: set[str] = set()
        try:
            stream = TarStream(headers)  # type: ignore[arg-type]
            for member in stream:
                name = _normal(member.name)
                if name in places or name in links or (name in folders and member.kind != "dir"):
                    raise UnsafeArchiveError(f"{name!r} is listed twice")
                if len(places) + len(links) + len(folders) >= LIMITS.archive_members:
                    raise UnsafeArchiveError(f"more than {LIMITS.archive_members} entries")
                kind = checked_kind(member)
                if kind == "file":
                    places[name] = (headers.position, member.size)
                    headers.pass_over(member.size)
                elif kind == "dir":
                    folders.add(name)
                else:
                    links[name] = _target(name, member)
            self.ended = stream.ended
        except UnsafeArchiveError as error:
            what = error.what if error.where is None else f"{error.where!r} {error.what}"
            raise UnsafeArchiveError(
                f"not a valid archive: {what}", where=self.path, hint="write or fetch the archive again"
            ) from error
        if not places:
            raise UnsafeArchiveError("not a valid archive: no file in it", where=self.path, hint="fetch it again")
        return places, links

    def _follow(self, name: str, target: str, links: Mapping[str, str]) -> tuple[int, int]:
        for _ in range(LIMITS.archive_link_hops):
            if target in self._places and target not in links:
                return self._places[target]
            if target not in links:
                break
            target = links[target]
        raise UnsafeArchiveError(f"the link {name!r} points to no file of the archive", where=self.path)


def _normal(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise UnsafeArchiveError(f"the name {name!r} climbs out of it")
    return "/".join(parts) or "."


def _target(name: str, member: Member) -> str:
    """The normal name of what a link names: from its own folder for a symbolic one, from the top for a hard one."""
    if member.linkname.startswith("/"):
        raise UnsafeArchiveError(f"the link {name!r} leaves it")
    folder = posixpath.dirname(name) if member.kind == "symlink" else ""
    target = posixpath.normpath(posixpath.join(folder, member.linkname))
    if target.split("/")[0] == "..":
        raise UnsafeArchiveError(f"the link {name!r} climbs out of it")
    return target


def _uncompressed(path: Path, limit: int) -> BinaryIO:
    """The tar as an open file: ``path`` itself, what comes out of a pipe, or what it unpacks to."""
    try:
        found = path.stat()
        if stat.S_ISSOCK(found.st_mode) or stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            raise UsageError(f"is {kind_of(found)} and not an archive", where=path)
        given = path.open("rb")
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=path) from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path) from error
    file: BinaryIO = given
    if not given.seekable():
        with given:
            pieces = iter(lambda: given.read(LIMITS.chunk_bytes), b"")
            file = _spooled(pieces, Path(tempfile.gettempdir()), path, limit)
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == _GZIP:
        with file:
            return _gunzipped(file, path, limit)
    program = next((name for start, name in _PROGRAMS.items() if magic.startswith(start)), None)
    if program is not None:
        file.close()
        from_file = f"unpack it with: {program} -dc {shlex.quote(str(path))} > image.tar"
        hint = from_file if file is given else f"pipe it through: {program} -dc"
        raise UsageError(f"is compressed with {program}", where=path, hint=hint)
    return file


def _gunzipped(file: BinaryIO, path: Path, limit: int) -> BinaryIO:
    folder = path.parent if os.access(path.parent, os.W_OK) else Path(tempfile.gettempdir())
    with gzip.GzipFile(fileobj=file) as unzip:
        return _spooled(iter(lambda: unzip.read(LIMITS.chunk_bytes), b""), folder, path, limit)


def _spooled(chunks: Iterator[bytes], folder: Path, path: Path, limit: int) -> BinaryIO:
    """A nameless file in ``folder`` of what comes from ``path``, at its beginning."""
    with disk_errors(folder):
        plain = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
        try:
            seen = 0
            for chunk in chunks:
                seen += len(chunk)
                if seen > limit:
                    raise UnsafeArchiveError(f"unpacks to more than {limit} bytes", where=path)
                plain.write(chunk)
            plain.flush()
            plain.seek(0)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            plain.close()
            raise UnsafeArchiveError(f"damaged gzip ({error})", where=path, hint="fetch it again") from error
        except BaseException:
            _drop(plain)
            raise
    return plain


def _drop(file: BinaryIO) -> None:
    try:
        file.close()
    except OSError:  # the full disk that is already being reported
        return
