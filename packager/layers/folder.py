"""A file or folder of the user as the entries of a layer, without what its ignore file and the defaults name."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from edgepack.errors import NotFoundError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci.layer import LayerEntry, ordered
from packager.layers.default_ignores import DEFAULTS
from packager.layers.ignore import IGNORE_FILE, Pattern, ignored, parse

_SHOWN = 8


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that stays out; ``rule`` is the name of a default, or ``.edgepackignore``."""

    path: str
    rule: str


@dataclass(frozen=True)
class FileTree:
    """What is shipped of a file or folder; ``kept`` are the paths that a line with ``!`` of its user names."""

    entries: tuple[LayerEntry, ...]
    left_out: tuple[LeftOut, ...] = ()
    kept: frozenset[str] = frozenset()


def read_tree(path: Path, watch: Callable[[LayerEntry], None] | None = None) -> FileTree:
    """The entries of a file (by its base name) or folder (its name kept), links kept as links.

    ``watch`` is told of each as it is found, and may stop the walk by an error.

    Raises ``NotFoundError`` when ``path`` does not exist, ``UsageError`` for what cannot be read, links out of the
    folder, special files, names that no layer can hold, folders that are too deep, a folder without any file, and an
    ignore file that is not valid.
    """
    try:
        if not path.exists():
            raise NotFoundError("there is no such file or folder", where=path, hint="check its path")
        # A link is called by its own name, and `.` by the folder's.
        name = path.name if path.name not in ("", "..") else path.resolve().name
        root = Path(os.path.realpath(path))
        if root == Path(root.anchor):
            raise UsageError("is the whole file system", where=path, hint="give a file, or a folder of its own")
        reader = _Reader(root, name, _patterns(root), watch or _unwatched)
        found = reader.read()
    except OSError as error:
        raise unreadable(error, path) from error
    if not any(entry.kind == "file" for entry in found.entries):
        if found.left_out:
            raise UsageError("holds no file that is not left out", where=path, hint=f"see {IGNORE_FILE} there")
        raise UsageError("holds no file", where=path, hint="give a file, or a folder that has one")
    ordered(found.entries)
    return found


def entries_of(path: Path) -> list[LayerEntry]:
    """The entries of ``read_tree`` alone; raises what it raises."""
    return list(read_tree(path).entries)


def left_out_text(left_out: Sequence[LeftOut]) -> str:
    """What stays out, in one line: the first few, and how many more."""
    shown = [f"{one.path} ({one.rule})" for one in left_out[:_SHOWN]]
    more = [f"{len(left_out) - _SHOWN} more"] if len(left_out) > _SHOWN else []
    return f"left out: {', '.join([*shown, *more])}; a line with ! and its path in {IGNORE_FILE} brings one back"


def unreadable(error: OSError, path: Path) -> UsageError:
    """The error that a file below ``path`` cannot be read."""
    return UsageError(
        f"cannot be read ({error.strerror})", where=error.filename or path, hint="check its permissions and the disk"
    )


def _unwatched(_: LayerEntry) -> None:
    """For a caller who does not watch."""


def _patterns(root: Path) -> tuple[Pattern, ...]:
    file = root / IGNORE_FILE
    if not root.is_dir() or file not in root.iterdir():  # whoever may not list it hears of it
        return ()
    try:
        return parse(file.read_text("utf-8"), file)
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8", where=file, hint="save it as UTF-8") from None


@dataclass
class _Reader:
    """Walks ``root``, whose entries are called ``name``, by the ``patterns`` of its ignore file."""

    root: Path
    name: str
    patterns: tuple[Pattern, ...]
    watch: Callable[[LayerEntry], None]
    left_out: list[LeftOut] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)

    def read(self) -> FileTree:
        found = []
        for entry in self._entries(self.root, ""):
            self.watch(entry)
            found.append(entry)
        names = {entry.path for entry in found}
        # What brings back a file brings back the folders that it is in, which the layer's writer adds.
        names |= {str(parent) for path in tuple(names) for parent in PurePosixPath(path).parents}
        for entry in found:
            if entry.kind == "symlink" and self._target(entry) not in names:
                self.left_out.append(LeftOut(entry.path.partition("/")[2], "a link to what is left out"))
                names.discard(entry.path)
        entries = tuple(entry for entry in found if entry.path in names)
        return FileTree(entries, tuple(self.left_out), frozenset(self.kept))

    def _entries(self, path: Path, inner: str, default: LeftOut | None = None, depth: int = 0) -> Iterator[LayerEntry]:
        """What is shipped of ``path``; ``default`` is the folder above that is left out where no line names it."""
        name = f"{self.name}/{inner}" if inner else self.name
        mode = path.lstat().st_mode
        patterns = self.patterns if default is None else (_exactly(default.path), *self.patterns)
        out = bool(inner) and ignored(patterns, inner)
        if inner and not out:
            rule = self._default(path, inner, mode)
            if rule is not None and not self._is_brought_back(inner):
                if not (stat.S_ISDIR(mode) and self._may_bring_back_by_name(inner)):
                    if inner != IGNORE_FILE:  # whoever wrote it knows
                        self.left_out.append(LeftOut(inner, rule))
                    return
                out, default = True, LeftOut(inner, rule)
        if out:
            may = stat.S_ISDIR(mode) and any(one.brings_back and one.may_match_below(inner) for one in patterns)
            if not may:
                self.left_out.append(LeftOut(inner, IGNORE_FILE if default is None else default.rule))
                return
        elif inner and self._is_brought_back(inner):
            self.kept.add(name)
        if stat.S_ISDIR(mode):
            if depth >= LIMITS.path_depth:
                raise UsageError(
                    f"holds a folder that is more than {LIMITS.path_depth} folders deep",
                    where=self.root / inner.partition("/")[0],
                    hint=f"move it up, or list it in {IGNORE_FILE}",
                )
            if not out:
                yield LayerEntry(name, "dir", 0o755)
            for child in sorted(path.iterdir()):
                yield from self._entries(child, f"{inner}/{child.name}" if inner else child.name, default, depth + 1)
        elif stat.S_ISLNK(mode):
            yield self._link(path, name)
        elif stat.S_ISREG(mode):
            if not os.access(path, os.R_OK):
                raise PermissionError(13, "Permission denied", str(path))
            # A stick's file system may call every file executable: that must not make another layer of the same bytes.
            yield replace(LayerEntry.of_file(name, path), mode=0o644)
        else:
            raise UsageError(
                "is neither a file nor a folder", where=path, hint=f"list it in {IGNORE_FILE}, or move it away"
            )

    def _default(self, path: Path, inner: str, mode: int) -> str | None:
        for rule in DEFAULTS:
            if rule.matches(inner):
                return rule.name
            if rule.marks and stat.S_ISDIR(mode) and any((path / mark).exists() for mark in rule.marks):
                return rule.name
        return None

    def _is_brought_back(self, inner: str) -> bool:
        """Whether a line means this very path: ``!lib`` does not bring back what a default leaves out of ``lib``."""
        named = [one for one in self.patterns if not one.brings_back or one.matches_itself(inner)]
        return not ignored((_exactly(inner), *named), inner)

    def _may_bring_back_by_name(self, inner: str) -> bool:
        """Whether a line names something below ``inner``; ``!**/*.py`` does not bring back an environment's modules."""
        return any(one.brings_back and one.fixed.startswith(f"{inner}/") for one in self.patterns)

    def _link(self, path: Path, name: str) -> LayerEntry:
        target = Path(os.path.realpath(path))  # which does not fail on a loop
        if not target.is_relative_to(self.root) or not target.exists():
            raise UsageError(
                f"is a link that leads out of {self.name}, or nowhere",
                where=path,
                hint=f"put the file itself there, or list the link in {IGNORE_FILE}",
            )
        up = "../" * (len(path.parent.relative_to(self.root).parts))
        return LayerEntry(name, "symlink", 0o777, linkname=f"{up}{target.relative_to(self.root)}")

    def _target(self, entry: LayerEntry) -> str:
        return posixpath.normpath(f"{posixpath.dirname(entry.path)}/{entry.linkname}")


def _exactly(path: str) -> Pattern:
    return Pattern("".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in path))
