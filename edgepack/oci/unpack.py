"""Unpacking a layer so that nothing in it can reach out of the folder that it is unpacked into.

Every name is walked by folder descriptors with ``O_NOFOLLOW``, below a folder that was empty; what the archive itself
made is known, so that a name through one of its links is refused before the file system is asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack.errors import UnsafeArchiveError, disk_errors
from edgepack.host.files import sync_file_system
from edgepack.limits import LIMITS, path_excess
from edgepack.oci.tar.header import MemberKind
from edgepack.oci.tar.stream import Member, TarStream, checked_kind
from edgepack.oci.whiteouts import OPAQUE, WHITEOUT, RefuseWhiteouts, Whiteouts
from edgepack.text import printable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What a hostile or overlong name makes of a system call.
_NAME_ERRORS = {errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR, errno.EMLINK}
# ext4 keeps times from 1901 to 2446; a time outside of that says nothing.
_MAX_TIME = 1 << 33


@dataclass(frozen=True)
class UnpackLimits:
    """At most this many bytes of file contents and this many entries."""

    content_bytes: int = LIMITS.unpacked_bytes
    entries: int = LIMITS.unpacked_entries


@dataclass(frozen=True)
class UnpackReport:
    """What was unpacked: entries of the archive, and bytes of file contents."""

    entries: int
    content_bytes: int


def unpack_layer(
    stream: BinaryIO,
    target: Path,
    *,
    limits: UnpackLimits | None = None,
    whiteouts: Whiteouts | None = None,
    keep_owner: bool | None = None,
) -> UnpackReport:
    """Unpack the plain tar of ``stream`` below ``target``, an empty folder, and read the stream to its end.

    Absolute links become relative ones inside the tree; set-user-id and set-group-id bits and extended attributes are
    dropped; owners are kept when ``keep_owner`` (by default: as root). Everything is on the disk on return; on an error
    the caller removes ``target``. Raises ``UnsafeArchiveError`` naming the entry, ``NoSpaceError``.
    """
    owner = os.geteuid() == 0 if keep_owner is None else keep_owner
    with empty_root(target) as root:
        unpacker = Unpacker(root, limits or UnpackLimits(), whiteouts or RefuseWhiteouts(), owner)
        return unpack_with(unpacker, TarStream(stream), target)


def unpack_with(unpacker: Unpacker, tar: TarStream, target: Path) -> UnpackReport:
    """Give ``unpacker``, whose root is ``target``, every member of ``tar``; everything is on the disk on return."""
    try:
        for member in tar:
            with disk_errors(target):
                unpacker.take(member, tar)
        unpacker.finish()
    finally:
        unpacker.close()
    with disk_errors(target):
        sync_file_system(target)
    return UnpackReport(unpacker.entries, unpacker.content_bytes)


@contextmanager
def empty_root(target: Path) -> Iterator[int]:
    """A descriptor of the folder ``target``; raises ``UnsafeArchiveError`` when something is in it."""
    with disk_errors(target):
        fd = os.open(target, _FOLDER)
    try:
        with os.scandir(fd) as entries:
            empty = next(entries, None) is None
        if not empty:
            raise UnsafeArchiveError("is not empty, so nothing is unpacked into it", where=target)
        yield fd
    finally:
        os.close(fd)


class Unpacker:
    """Makes the members of a layer below the folder of descriptor ``root``, as ``unpack_layer`` says."""

    def __init__(self, root: int, limits: UnpackLimits, whiteouts: Whiteouts, keep_owner: bool) -> None:
        self._root = root
        self._limits = limits
        self._whiteouts = whiteouts
        self._keep_owner = keep_owner
        self._made: dict[str, MemberKind | None] = {"": "dir"}  # None: a whiteout
        self._announced: dict[str, Member] = {}
        self._open: tuple[str, int] | None = None
        self.entries = 0
        self.content_bytes = 0

    def take(self, member: Member, tar: TarStream) -> None:
        """Make ``member``, whose bytes ``tar`` yields."""
        self.entries += 1
        self.content_bytes += member.size
        where = printable(member.name)
        if self.entries > self._limits.entries:
            raise UnsafeArchiveError(f"more than {self._limits.entries} entries", where=where)
        if self.content_bytes > self._limits.content_bytes:
            raise UnsafeArchiveError(f"more than {self._limits.content_bytes} bytes of files", where=where)
        try:
            self._make(member, tar, where)
        except FileExistsError:
            raise UnsafeArchiveError("is listed twice in the layer", where=where) from None
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            raise UnsafeArchiveError(f"cannot be unpacked ({error.strerror})", where=where) from error

    def _make(self, member: Member, tar: TarStream, where: str) -> None:
        kind = checked_kind(member)
        path = _checked_name(member, where)
        above, _, name = path.rpartition("/")
        if name.startswith(WHITEOUT):
            return self._white_out(above, name, member, where)
        if kind == "dir":
            return self._announce(path, member, where)
        if path in self._made:
            raise FileExistsError
        folder = self._folder(above, where)
        if kind == "file":
            self._file(folder, name, member, tar)
        elif kind == "symlink":
            os.symlink(_inside(path, member.linkname, where), name, dir_fd=folder)
            self._own(folder, name, member)
        else:
            self._hard_link(folder, name, member, where)
        self._made[path] = kind
        return None

    def _white_out(self, above: str, name: str, member: Member, where: str) -> None:
        if member.kind != "file" or member.size or name == WHITEOUT:
            raise UnsafeArchiveError("is a whiteout and not an empty file", where=where)
        folder = self._folder(above, where)
        if name == OPAQUE:
            return self._whiteouts.hide_all(folder, where)
        hidden = name.removeprefix(WHITEOUT)
        if hidden.startswith(WHITEOUT) or hidden in (".", ".."):
            raise UnsafeArchiveError("is a whiteout of an invalid name", where=where)
        path = f"{above}/{hidden}" if above else hidden
        if path in self._made:
            raise FileExistsError
        self._whiteouts.hide(folder, hidden, where)
        self._made[path] = None  # a later entry of that name would be listed twice, and nothing may go through it
        return None

    def _announce(self, path: str, member: Member, where: str) -> None:
        if path in self._announced or self._made.get(path, "dir") != "dir":
            raise FileExistsError
        self._folder(path, where)
        self._announced[path] = member

    def _folder(self, path: str, where: str) -> int:
        """A descriptor of the folder ``path``, made with its parents where absent."""
        if self._open is not None and self._open[0] == path:
            return self._open[1]
        here = os.dup(self._root)
        done = ""
        try:
            for part in path.split("/") if path else ():
                done = f"{done}/{part}" if done else part
                if self._made.get(done, "dir") != "dir":
                    raise UnsafeArchiveError(f"goes through {printable(done)!r}, which is not a directory", where=where)
                new = done not in self._made
                if new:
                    os.mkdir(part, 0o755, dir_fd=here)
                    self._made[done] = "dir"
                below = os.open(part, _FOLDER, dir_fd=here)
                if new:  # the umask must not decide who may enter; a layer need not list the folders of its files
                    os.fchmod(below, 0o755)
                os.close(here)
                here = below
        except BaseException:
            os.close(here)
            raise
        self.close()
        self._open = (path, here)
        return here

    def _file(self, folder: int, name: str, member: Member, tar: TarStream) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        with os.fdopen(fd, "wb") as file:
            self._write(file, member, tar)
            file.flush()  # what is written later would change the time that is set here
            if self._keep_owner:
                os.fchown(fd, *_owner(member))
            os.fchmod(fd, member.mode & 0o777)
            os.utime(fd, ns=_times(member))

    def _write(self, file: BinaryIO, member: Member, tar: TarStream) -> None:
        for chunk in tar.chunks():
            file.write(chunk)

    def _hard_link(self, folder: int, name: str, member: Member, where: str) -> None:
        target = _clean(member.linkname, where)
        if self._made.get(target) != "file":
            raise UnsafeArchiveError(
                f"is a hard link to {printable(member.linkname)!r}, which is not an earlier file of the layer",
                where=where,
            )
        self._link(folder, name, target, where)

    def _link(self, folder: int, name: str, target: str, where: str) -> None:
        above, _, last = target.rpartition("/")
        # Opening the other folder may close this one, so it is kept by a descriptor of its own.
        here = os.dup(folder)
        try:
            os.link(last, name, src_dir_fd=self._folder(above, where), dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(here)

    def _own(self, folder: int, name: str, member: Member) -> None:
        if self._keep_owner:
            os.chown(name, *_owner(member), dir_fd=folder, follow_symlinks=False)
        os.utime(name, ns=_times(member), dir_fd=folder, follow_symlinks=False)

    def finish(self) -> None:
        """Give the folders their owners, modes and times, which making their contents would have changed."""
        for path, member in sorted(self._announced.items(), reverse=True):
            fd = self._folder(path, printable(member.name))
            if self._keep_owner:
                os.fchown(fd, *_owner(member))
            # Without these bits somebody who is not root could not even remove the tree.
            os.fchmod(fd, member.mode & 0o1777 | 0o700)
            os.utime(fd, ns=_times(member))

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


def _clean(name: str, where: str) -> str:
    if name.startswith("/"):
        raise UnsafeArchiveError("an absolute name", where=where)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafeArchiveError("a name with '..' in it", where=where)
    path = "/".join(parts)
    if (excess := path_excess(path)) is not None:
        raise UnsafeArchiveError(excess, where=f"{where[:64]}…")
    return path


def _checked_name(member: Member, where: str) -> str:
    path = _clean(member.name, where)
    if member.kind != "dir" and (not path or member.name.endswith(("/", "/."))):
        raise UnsafeArchiveError("has a directory's name and is not one", where=where)
    return path


def _inside(path: str, linkname: str, where: str) -> str:
    """The target of the symbolic link at ``path``, relative and inside of the tree whatever its parts are.

    Only leading ``..`` are let through: the folders above a link are real ones, but what a name leads to is not known,
    so a ``..`` behind a name could climb further than it seems to.
    """
    parts = [part for part in linkname.split("/") if part not in ("", ".")]
    climbs = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    depth = path.count("/")
    absolute = linkname.startswith("/")
    if not linkname or ".." in parts[climbs:] or climbs > (0 if absolute else depth):
        raise UnsafeArchiveError(f"is a link to {printable(linkname)!r}, which may lead out of the tree", where=where)
    if not absolute:
        return linkname
    return "/".join([".."] * depth + parts) or "."


def _owner(member: Member) -> tuple[int, int]:
    top = (1 << 32) - 2  # the highest value means "leave it as it is"
    return (member.uid if 0 <= member.uid <= top else 0, member.gid if 0 <= member.gid <= top else 0)


def _times(member: Member) -> tuple[int, int]:
    seconds = min(max(member.mtime, 0), _MAX_TIME) * 1_000_000_000
    return (seconds, seconds)
