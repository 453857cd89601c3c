"""Where a path that is to be written leads: links are followed, and what is not a regular file is written through.

A file is replaced by renaming another one to its name. Done to ``/dev/null``, a FIFO or a link, that would destroy it
for everybody, so it is found out before.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import UsageError

# The kernel follows as many (path_resolution(7)).
_MAX_LINKS = 40


@dataclass(frozen=True)
class Destination:
    """``path`` with its links followed: a regular file or nothing, unless ``through`` is set.

    ``through`` is a device, pipe or terminal, or an open file by its number (``/dev/stdout``): it stays what it is.
    """

    path: Path
    through: bool = False

    def open_through(self) -> int:
        """A descriptor that writes into what is there; nothing is created or cut off. Raises ``UsageError``."""
        number = _own_descriptor(self.path)
        try:
            if number is not None:  # opened anew, it would begin at the start of the file that a shell's >> appends to
                return os.dup(number)
            return os.open(self.path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOENT):
                raise
            raise UsageError("is not an open file", where=self.path, hint="give another path") from None


def destination(path: Path) -> Destination:
    """Where ``path`` leads; raises ``UsageError`` for too many links and for a link that somebody may have laid out.

    In a folder where everybody may create files, as in ``/tmp``, a link is followed only when it belongs to the user
    or to the folder's owner, whatever ``fs.protected_symlinks`` says.
    """
    here = path
    for _ in range(_MAX_LINKS):
        if _is_descriptor(here):
            return Destination(here, through=True)
        try:
            info = here.lstat()
        except FileNotFoundError:
            return Destination(here)
        if not stat.S_ISLNK(info.st_mode):
            return Destination(here, through=not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)))
        folder = here.parent.stat()
        shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if shared and info.st_uid not in (os.geteuid(), folder.st_uid):
            raise UsageError(
                "is a link of another user in a folder that everybody may write to", where=here,
                hint="remove it, or give another path",
            )  # fmt: skip
        # The folder's own links first: `..` in a target counts from where the folder really is.
        here = Path(os.path.realpath(here.parent)) / here.readlink()
    raise UsageError("is a chain of links without an end", where=path, hint="give another path")


def is_standard_output(path: Path | None) -> bool:
    """Whether what was written to ``path`` went to this process's standard output, where its results go too."""
    if path is None:
        return False
    try:
        target = destination(path)
        return target.through and os.path.samestat(target.path.stat(), os.fstat(1))
    except (OSError, UsageError):  # no standard output, or a path that nothing was written to
        return False


def _is_descriptor(path: Path) -> bool:
    """Whether ``path`` is an open file of a process, such as ``/proc/self/fd/1``."""
    parts = Path(os.path.realpath(path.parent)).parts
    return parts[:2] == ("/", "proc") and parts[-1] == "fd" and path.name.isdigit()


def _own_descriptor(path: Path) -> int | None:
    """The number of this process's open file that ``path`` is; ``None`` for anything else."""
    if not _is_descriptor(path):
        return None
    parts = Path(os.path.realpath(path.parent)).parts
    return int(path.name) if parts[2] == str(os.getpid()) else None
