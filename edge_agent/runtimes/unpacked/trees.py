"""Merging unpacked layers into one tree by hard links, which takes no disk for their contents."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import UnsafeArchiveError, disk_errors
from edgepack.host.files import publish, sync_file_system, temporary_beside


def merge_trees(layers: Sequence[Path], target: Path) -> None:
    """Make ``target`` the merge of ``layers``, base first, unless it exists; completely or not at all.

    The caller holds a lock on ``target``. Raises ``UnsafeArchiveError`` for anything but files, folders and links.
    """
    if target.is_dir():
        return
    with disk_errors(target), temporary_beside(target, 0o755) as temporary:
        for layer in layers:
            _add(layer, temporary)
        sync_file_system(temporary)
        publish(temporary, target)


def _add(source: Path, target: Path) -> None:
    """Lay the folder ``source`` over the folder ``target``."""
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            at = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                if not stat.S_ISDIR(_mode(at)):
                    at.unlink(missing_ok=True)
                    at.mkdir(mode=0o755)
                _add(Path(entry.path), at)
                continue
            if not (entry.is_symlink() or entry.is_file(follow_symlinks=False)):
                raise UnsafeArchiveError("is not a file, folder or link", where=entry.path)
            if stat.S_ISDIR(_mode(at)):
                shutil.rmtree(at)
            at.unlink(missing_ok=True)
            os.link(entry.path, at, follow_symlinks=False)


def _mode(path: Path) -> int:
    """The mode of ``path`` itself, links not followed; 0 when it does not exist."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0
