"""Merging unpacked layers into one tree by hard links, which takes no disk for their contents."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_agent.runtimes.unpacked.inventory import put_in_place
from edgepack.errors import UnsafeArchiveError, disk_errors
from edgepack.host.files import sync_file_system, temporary_beside
from edgepack.host.removal import remove_tree
from edgepack.oci.whiteouts import hidden_name, hides_all


def merge_trees(
    layers: Sequence[Path], target: Path, finish: Callable[[Path], None] | None = None, *, fifos: bool = False
) -> None:
    """Make ``target`` the merge of ``layers``, base first, completely or not at all; an existing one is mended.

    What a layer hides of those below it is left out. ``finish`` is called with the merged folder before it is named.
    The caller holds a lock on ``target``. Raises ``UnsafeArchiveError`` for anything but files, folders, links, and
    where they are allowed ``fifos``.
    """
    with disk_errors(target), temporary_beside(target, 0o755) as temporary:
        for layer in layers:
            _add(layer, temporary, fifos)
        if finish is not None:
            finish(temporary)
        sync_file_system(temporary)
        put_in_place(temporary, target, "inode")


def _add(source: Path, target: Path, fifos: bool) -> None:
    """Lay the folder ``source`` over the folder ``target``."""
    if hides_all(source):
        for hidden in target.iterdir():
            _remove(hidden)
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            at = target / entry.name
            if (name := hidden_name(entry)) is not None:
                _remove(target / name)
                continue
            if entry.is_dir(follow_symlinks=False):
                if not stat.S_ISDIR(_mode(at)):
                    at.unlink(missing_ok=True)
                    at.mkdir(mode=0o755)
                    at.chmod(0o755)  # whatever the umask
                _add(Path(entry.path), at, fifos)
                continue
            if not (
                entry.is_symlink()
                or entry.is_file(follow_symlinks=False)
                or (fifos and stat.S_ISFIFO(entry.stat(follow_symlinks=False).st_mode))
            ):
                raise UnsafeArchiveError("is not a file, folder or link", where=entry.path)
            _remove(at)
            os.link(entry.path, at, follow_symlinks=False)


def _remove(path: Path) -> None:
    if stat.S_ISDIR(_mode(path)):
        remove_tree(path)
    path.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """The mode of ``path`` itself, links not followed; 0 when it does not exist."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0
