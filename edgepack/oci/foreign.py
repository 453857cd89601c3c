"""Layers as other tools make them, understood as container engines do, and unpacked so that nothing leads out.

Engines take what we never write: names through links, links that climb, entries that replace earlier ones, whiteouts
beside what they hide, sparse files, device nodes. ``ForeignLayer`` says what each entry comes to, without touching a
disk: every link of the layer is followed in its own records, with the layer's root as the root, as inside a container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from edgepack.errors import UnsafeArchiveError
from edgepack.limits import LIMITS, path_excess
from edgepack.oci.tar.sparse import write_sparse
from edgepack.oci.tar.stream import DEVICE, FIFO, SPARSE, Member, TarStream, checked_kind
from edgepack.oci.unpack import Unpacker, UnpackLimits, UnpackReport, empty_root, unpack_with
from edgepack.oci.whiteouts import OPAQUE, WHITEOUT, Whiteouts
from edgepack.text import printable

Kind = Literal["file", "dir", "symlink", "fifo", "hidden"]
_META = f"{WHITEOUT}{WHITEOUT}"  # records of a file system that is gone (AUFS), which engines pass over
_MAX_HOPS = 40  # as the kernel follows links (path_resolution(7))
_MAX_FOLDERS_REPLACED = 1000  # each costs a look at all names; no tool's layer replaces one


@dataclass(frozen=True)
class Step:
    """What to do for an entry: make ``path``, or remove it, hide it, or hide all that lower layers have in it.

    ``target`` is a symbolic link's text, or the path of a hard link's file.
    """

    action: Literal["file", "dir", "symlink", "hardlink", "fifo", "remove", "hide", "hide all"]
    path: str
    target: str = ""


class ForeignLayer:
    """What the entries of a layer come to, one after the other."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {"": "dir"}
        self._texts: dict[str, str] = {}
        self._folders_replaced = 0

    def take(self, member: Member) -> list[Step]:
        """The steps for ``member``; raises ``UnsafeArchiveError`` for what engines refuse too, or nobody can make."""
        where = printable(member.name)
        parts = _lexical(member.name, where)
        if any(part.startswith(_META) and part != OPAQUE for part in parts):
            return []
        steps: list[Step] = []
        above = self._folder(parts[:-1], steps, where)
        name = parts[-1] if parts else ""
        if name == OPAQUE:
            return [*steps, Step("hide all", above)]
        if name.startswith(WHITEOUT):
            return steps + self._hide(above, name.removeprefix(WHITEOUT), where)
        path = _join(above, name)
        if (excess := path_excess(path)) is not None:
            raise UnsafeArchiveError(excess, where=f"{where[:64]}…")
        if member.special == DEVICE:
            # A container has its own devices; those of an image are never seen, whatever is below.
            return steps + self._replace(path, "hidden") + [Step("hide", path)]
        if member.kind == "dir":
            return steps + self._directory(path)
        if not path:
            raise UnsafeArchiveError("has a directory's name and is not one", where=where)
        return steps + self._make(path, member, where)

    def _make(self, path: str, member: Member, where: str) -> list[Step]:
        if member.special == FIFO:
            return [*self._replace(path, "fifo"), Step("fifo", path)]
        kind = "file" if member.special == SPARSE else checked_kind(member)
        if kind == "symlink":
            text = _link_text(path, member.linkname, where)
            steps = [*self._replace(path, "symlink"), Step("symlink", path, text)]
            self._texts[path] = text
            return steps
        if kind == "hardlink":
            return self._hard_link(path, member, where)
        return [*self._replace(path, "file"), Step("file", path)]

    def _hard_link(self, path: str, member: Member, where: str) -> list[Step]:
        parts = _lexical(member.linkname, where)
        passed: list[Step] = []
        target = _join(self._folder(parts[:-1], passed, where), parts[-1] if parts else "")
        kind = None if passed else self._kinds.get(target)
        if kind in (None, "dir") or target == path or target.startswith(f"{path}/"):
            raise UnsafeArchiveError(
                f"is a hard link to {printable(member.linkname)!r}, which is not an earlier file of the layer",
                where=where,
            )
        if kind == "hidden":  # another name of a device
            return [*self._replace(path, "hidden"), Step("hide", path)]
        steps = [*self._replace(path, kind), Step("hardlink", path, target)]
        if kind == "symlink":
            self._texts[path] = self._texts[target]
        return steps

    def _directory(self, path: str) -> list[Step]:
        before = self._kinds.get(path)
        if before == "dir":
            return [Step("dir", path)]
        steps = [*self._replace(path, "dir"), Step("dir", path)]
        return [*steps, Step("hide all", path)] if before == "hidden" else steps

    def _hide(self, above: str, name: str, where: str) -> list[Step]:
        if name in ("", ".", ".."):
            raise UnsafeArchiveError("is a whiteout of an invalid name", where=where)
        path = _join(above, name)
        match self._kinds.get(path):
            case None:
                self._kinds[path] = "hidden"
                return [Step("hide", path)]
            case "dir":
                return [Step("hide all", path)]
            case _:  # what the layer has itself hides the name below it
                return []

    def _replace(self, path: str, kind: Kind) -> list[Step]:
        """Let ``path`` be of that kind; how to remove what the layer had there."""
        before = self._kinds.pop(path, None)
        self._texts.pop(path, None)
        if before == "dir":
            self._folders_replaced += 1
            if self._folders_replaced > _MAX_FOLDERS_REPLACED:
                raise UnsafeArchiveError("replaces too many folders of its own layer", where=printable(path))
            for known in [one for one in self._kinds if one.startswith(f"{path}/")]:
                del self._kinds[known]
                self._texts.pop(known, None)
        self._kinds[path] = kind
        return [Step("remove", path)] if before is not None else []

    def _folder(self, parts: list[str], steps: list[Step], where: str) -> str:
        """The folder that ``parts`` lead to, links followed; what is not there is a folder from now on."""
        here: list[str] = []
        waiting = list(reversed(parts))
        hops = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                here = here[:-1]
                continue
            path = "/".join([*here, part])
            kind = self._kinds.get(path)
            if kind == "symlink":
                hops += 1
                if hops > _MAX_HOPS:
                    raise UnsafeArchiveError("goes through a ring of links", where=where)
                waiting += reversed([one for one in self._texts[path].split("/") if one not in ("", ".")])
                continue
            if kind in ("file", "fifo"):
                raise UnsafeArchiveError(f"goes through {printable(path)!r}, which is not a directory", where=where)
            if kind == "hidden":
                steps += self._directory(path)
            self._kinds.setdefault(path, "dir")
            here.append(part)
        return "/".join(here)


class _ForeignUnpacker(Unpacker):
    def __init__(self, root: int, limits: UnpackLimits, whiteouts: Whiteouts, keep_owner: bool) -> None:
        super().__init__(root, limits, whiteouts, keep_owner)
        self._layer = ForeignLayer()
        self._opaque: set[str] = set()
        self._apparent = 0

    def _make(self, member: Member, tar: TarStream, where: str) -> None:
        for step in self._layer.take(member):
            self._do(step, member, tar, where)

    def _do(self, step: Step, member: Member, tar: TarStream, where: str) -> None:
        above, _, name = step.path.rpartition("/")
        match step.action:
            case "dir":
                self._folder(step.path, where)
                self._announced[step.path] = member
                return
            case "hide all":
                folder = self._folder(step.path, where)
                if step.path not in self._opaque:
                    self._opaque.add(step.path)
                    self._whiteouts.hide_all(folder, where)
                return
        folder = self._folder(above, where)
        match step.action:
            case "remove":
                self._remove(folder, name, step.path)
            case "hide":
                self._whiteouts.hide(folder, name, where)
            case "file":
                self._file(folder, name, member, tar)
                self._made[step.path] = "file"
            case "symlink":
                os.symlink(step.target, name, dir_fd=folder)
                self._own(folder, name, member)
                self._made[step.path] = "symlink"
            case "fifo":
                os.mkfifo(name, 0o600, dir_fd=folder)
                os.chmod(name, member.mode & 0o777, dir_fd=folder)
                self._own(folder, name, member)
                self._made[step.path] = "file"
            case "hardlink":
                self._link(folder, name, step.target, where)
                self._made[step.path] = "file"

    def _remove(self, folder: int, name: str, path: str) -> None:
        if self._made.get(path) == "dir":
            shutil.rmtree(name, dir_fd=folder)
        else:
            with contextlib.suppress(FileNotFoundError):  # a whiteout may have another name
                os.unlink(name, dir_fd=folder)
        if self._made.get(path) == "dir":
            for known in [one for one in self._made if one.startswith(f"{path}/")]:
                self._forget(known)
        self._forget(path)

    def _forget(self, path: str) -> None:
        self._made.pop(path, None)
        self._announced.pop(path, None)
        self._opaque.discard(path)

    def _write(self, file: BinaryIO, member: Member, tar: TarStream) -> None:
        if member.sparse is None:
            super()._write(file, member, tar)
            return
        self._apparent += member.sparse.size
        if self._apparent > LIMITS.unpacked_bytes:
            raise UnsafeArchiveError(f"more than {LIMITS.unpacked_bytes} bytes of files", where=printable(member.name))
        write_sparse(member.sparse, tar.chunks(), file, printable(member.name))


def unpack_foreign_layer(
    stream: BinaryIO, target: Path, *, whiteouts: Whiteouts, limits: UnpackLimits | None = None
) -> UnpackReport:
    """Unpack as ``unpack_layer`` does, but take all that engines take; what it hides becomes what ``whiteouts`` make.

    Device nodes are left out: their names are hidden, as in a container, which has devices of its own.
    """
    with empty_root(target) as root:
        unpacker = _ForeignUnpacker(root, limits or UnpackLimits(), whiteouts, os.geteuid() == 0)
        return unpack_with(unpacker, TarStream(stream, as_engines=True), target)


def check_foreign_layer(members: Iterator[Member]) -> None:
    """Raise ``UnsafeArchiveError`` for the first of a layer's ``members`` that a device could not unpack."""
    layer = ForeignLayer()
    for member in members:
        layer.take(member)


def _lexical(name: str, where: str) -> list[str]:
    """The parts of a name below the layer's root, each ``..`` taken away with what is before it, as engines do."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise UnsafeArchiveError("a name that leads out of the layer", where=where)
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _link_text(path: str, text: str, where: str) -> str:
    """A link's text so that it stays below the root where the tree is not the root itself.

    An absolute one becomes relative, and what climbs above the root stops there, as it does in a container.
    """
    if not text:
        raise UnsafeArchiveError("is a link to nothing", where=where)
    depth = path.count("/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    climbs = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    if text.startswith("/"):
        return "/".join([".."] * depth + parts[climbs:]) or "."
    if climbs > depth:
        return "/".join([".."] * depth + parts[climbs:]) or "."
    return text


def _join(above: str, name: str) -> str:
    return f"{above}/{name}" if above and name else above or name
