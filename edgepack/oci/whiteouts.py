"""Entries with which a layer hides names of the layers below (image-spec 1.1, layer.md, "Whiteouts")."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from edgepack.errors import UnsafeArchiveError

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_OVERLAY_OPAQUE = "trusted.overlay.opaque"


class Whiteouts(Protocol):
    """What becomes of the entries with which a layer hides names of the layers below (image-spec, layer.md)."""

    def hide(self, folder: int, name: str, where: str) -> None:
        """Hide ``name`` in the folder of descriptor ``folder``; ``where`` is the whiteout's own path."""

    def hide_all(self, folder: int, where: str) -> None:
        """Hide everything that lower layers have in the folder of descriptor ``folder``."""


class RefuseWhiteouts:
    """Refuse layers that hide something: for trees that are merged by hand."""

    def hide(self, folder: int, name: str, where: str) -> None:
        """Raise ``UnsafeArchiveError``."""
        raise UnsafeArchiveError("hides a file of a lower layer, which needs overlay mounts", where=where)

    def hide_all(self, folder: int, where: str) -> None:
        """Raise ``UnsafeArchiveError``."""
        raise UnsafeArchiveError("hides a folder of a lower layer, which needs overlay mounts", where=where)


class OverlayWhiteouts:
    """Whiteouts as overlayfs reads them (kernel documentation, overlayfs.rst, "whiteouts and opaque directories")."""

    def hide(self, folder: int, name: str, where: str) -> None:
        """Make a character device 0/0; needs root."""
        os.mknod(name, 0o020000, os.makedev(0, 0), dir_fd=folder)

    def hide_all(self, folder: int, where: str) -> None:
        """Set ``trusted.overlay.opaque``; needs root."""
        os.setxattr(folder, _OVERLAY_OPAQUE, b"y")


class KeptWhiteouts:
    """Whiteouts as the archive has them, empty files of reserved names: for trees that ``merge_trees`` makes."""

    def hide(self, folder: int, name: str, where: str) -> None:
        """Make the empty file ``.wh.NAME``."""
        self._mark(folder, f"{WHITEOUT}{name}")

    def hide_all(self, folder: int, where: str) -> None:
        """Make the empty file ``.wh..wh..opq``."""
        self._mark(folder, OPAQUE)

    @staticmethod
    def _mark(folder: int, name: str) -> None:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder))


def hidden_name(entry: os.DirEntry[str]) -> str | None:
    """The name of a lower layer that ``entry`` of an unpacked layer hides, in either form; ``None`` for its own."""
    if entry.name.startswith(WHITEOUT):
        return entry.name.removeprefix(WHITEOUT)
    found = entry.stat(follow_symlinks=False)
    return entry.name if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0 else None


def hides_all(folder: Path) -> bool:
    """Whether the ``folder`` of an unpacked layer hides everything that lower layers have in it, in either form."""
    return _is_marked(folder) or (folder / OPAQUE).exists()


def copy_hiding(source: Path, target: Path) -> None:
    """Let the folder ``target`` hide what lower layers have in it just where ``source`` does so for overlay mounts."""
    marked = [_is_marked(folder) for folder in (source, target)]
    if marked == [True, False]:
        os.setxattr(target, _OVERLAY_OPAQUE, b"y", follow_symlinks=False)
    elif marked == [False, True]:
        os.removexattr(target, _OVERLAY_OPAQUE, follow_symlinks=False)


def _is_marked(folder: Path) -> bool:
    try:
        return os.getxattr(folder, _OVERLAY_OPAQUE, follow_symlinks=False) == b"y"
    except OSError:  # not set, not readable for this user, or no such attributes here
        return False
