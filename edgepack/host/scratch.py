"""Folders for what a command needs meanwhile: removed at its end, or by the next command when it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgepack.host.files import sweep
from edgepack.host.removal import remove_tree

_PREFIX, _SUFFIX = "edgepack-", ".scratch"


@contextlib.contextmanager
def scratch_folder(purpose: str, within: Path | None = None) -> Iterator[Path]:
    """A new folder that only this user may enter, in the system's folder for temporary files or in ``within``.

    It is removed at the end of the block; what killed processes left in that place is removed first.
    """
    sweep_scratch(within)
    folder, fd = _locked(purpose, within)
    try:
        yield folder
    finally:
        remove_tree(folder, ignore_errors=True)
        os.close(fd)


def _locked(purpose: str, within: Path | None) -> tuple[Path, int]:
    while True:
        # By tempfile, whose rules for where temporary files go hold here too.
        folder = Path(tempfile.mkdtemp(_SUFFIX, f"{_PREFIX}{purpose}-", within))
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # another process swept it before it was locked
            continue
        with contextlib.suppress(OSError):  # a file system without locks; then no other process can sweep it either
            fcntl.flock(fd, fcntl.LOCK_EX)
        if folder.exists():
            return folder, fd
        os.close(fd)


def sweep_scratch(within: Path | None = None) -> None:
    """Remove what killed processes of this user left; what a living one uses stays. Nothing is raised."""
    with contextlib.suppress(OSError):
        sweep(within or _temporary_folder(), f"{_PREFIX}*{_SUFFIX}", own=True)


def _temporary_folder() -> Path:
    """Where temporary files go; tempfile would write one to find out, which fails on a full disk."""
    named = (tempfile.tempdir, *(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")))
    return next((Path(name) for name in named if name and Path(name).is_dir()), Path("/tmp"))  # noqa: S108
