"""Entries with which a layer hides names of the layers below (image-spec 1.1, layer.md, "Whiteouts")."""

from __future__ import annotations

import os
from typing import Protocol

from edgepack.errors import UnsafeArchiveError


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
        os.setxattr(folder, "trusted.overlay.opaque", b"y")
