"""What media have of bundles: files and folders, whole bundles and parts. Only their lists are read, and verified.

Media are only read, in any order, and other files on them are left alone.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from edgepack.bundle.listing import Contents
from edgepack.bundle.parts import PART_NAME, Part, identity
from edgepack.bundle.read import STDIN, read_list
from edgepack.bundle.tar import TarReader, is_bundle
from edgepack.errors import EdgepackError, NotFoundError, UsageError
from edgepack.host.inputs import open_regular
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest
from edgepack.signing.keys import PublicKey

# A stick may hold anything; whoever has more files in one folder means another one.
_MOST_ENTRIES = 10_000


class UnreadableError(EdgepackError):
    """A medium that cannot be read, or not any more."""


@dataclass
class PartFiles:
    """The files that are parts of one bundle, by their numbers; of a part there may be copies."""

    contents: Contents
    part: Part
    files: dict[int, list[Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class Media:
    """What files and folders have of bundles: whole ones, parts, and files that are parts and cannot be read."""

    bundles: tuple[Path, ...]
    parts: tuple[PartFiles, ...]
    bad: Mapping[Path, EdgepackError]


def find_media(paths: Sequence[Path], trusted: Collection[PublicKey], *, allow_unsigned: bool = False) -> Media:
    """Look at ``paths``, of which a folder stands for the bundles in it. Only lists are read, and verified.

    Raises ``NotFoundError`` for a path that is not there, or a folder without a bundle.
    """
    bundles: list[Path] = []
    found: dict[tuple[Digest, object], PartFiles] = {}
    bad: dict[Path, EdgepackError] = {}
    for path in _files(paths):
        if path != STDIN and not path.exists():
            raise NotFoundError("there is no such bundle", where=path, hint="check the path")
        if path == STDIN or not path.is_file():  # what cannot be opened twice is one bundle
            bundles.append(path)
            continue
        try:
            with part_file(path) as stream:
                listed = read_list(TarReader(stream, path), trusted, allow_unsigned, LIMITS, path)
        except EdgepackError as error:
            # One that is not known for a part is reported as the bundle that it was given as.
            if PART_NAME.fullmatch(path.name):
                bad[path] = error
            else:
                bundles.append(path)
            continue
        if listed.part is None:
            bundles.append(path)
            continue
        key = identity(listed.contents), listed.part.layout
        one = found.setdefault(key, PartFiles(listed.contents, listed.part))
        one.files.setdefault(listed.part.number, []).append(path)
    return Media(tuple(bundles), tuple(found.values()), bad)


def beside(path: Path) -> tuple[Path, ...]:
    """``path``, and the other files in its folder that may be parts of the same bundle."""
    match = PART_NAME.fullmatch(path.name)
    if match is None:
        return (path,)
    prefix = path.name[: match.start(1)]
    others = (one for one in path.parent.iterdir() if one.name.startswith(prefix) and PART_NAME.fullmatch(one.name))
    return tuple(sorted({path, *others}))


class _Watched:
    """A file on a medium that may be pulled out while it is read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, amount: int = -1) -> bytes:
        try:
            return self._file.read(amount)
        except OSError as error:
            raise _unreadable(self._path, error) from error


@contextmanager
def part_file(path: Path) -> Iterator[BinaryIO]:
    """The file at ``path``, whose reads raise ``UnreadableError`` where the medium fails or is pulled out."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        raise NotFoundError("is not there any more", where=path, hint="put the stick in again") from None
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        yield cast(BinaryIO, _Watched(file, path))


def _unreadable(path: Path, error: OSError) -> UnreadableError:
    return UnreadableError(f"cannot be read ({error.strerror})", where=path, hint="put the stick in again")


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """``paths``, and of a folder the bundles in it; other files there are left alone."""
    seen: set[Path] = set()
    for path in paths:
        if path == STDIN or not path.is_dir():
            if path not in seen:
                seen.add(path)
                yield path
            continue
        found = False
        try:
            entries = sorted(path.iterdir())
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(entries) > _MOST_ENTRIES:
            raise UsageError(
                f"has {len(entries)} entries", where=path, hint="give the folder that has the bundles alone"
            )
        for entry in entries:
            if _is_offered(entry):
                found = True
                if entry not in seen:
                    seen.add(entry)
                    yield entry
        if not found:
            raise NotFoundError(
                "has no bundle, and no part of one", where=path, hint="write one there with: edgepack bundle create"
            )


def _is_offered(entry: Path) -> bool:
    """Whether a file in a folder is a bundle or a part; a part whose first byte is damaged is known by its name."""
    if entry.name.startswith("."):
        return False
    try:
        if not stat.S_ISREG(entry.stat().st_mode):
            return False
        return PART_NAME.fullmatch(entry.name) is not None or is_bundle(entry)
    except OSError:
        return PART_NAME.fullmatch(entry.name) is not None
    except EdgepackError:
        return False
