"""Whether a file or folder is beyond the reach of other users: its owner, its mode, and those of the folders above it.

What decides what runs as root must not be changed, or replaced, by anybody but root and the user who runs it.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from edgepack.errors import UnsafePermissionsError


def check_own(path: Path) -> None:
    """Raise ``UnsafePermissionsError``, with the command that mends it, when another user could change ``path``.

    Its owner must be root or this process's user, and nobody else may write to it. An absent one is fine.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    _check_owner(path, found)
    if not stat.S_ISLNK(found.st_mode) and _others_write(found):
        raise UnsafePermissionsError(
            f"may be written by other users (mode {stat.S_IMODE(found.st_mode):04o})", where=path,
            hint=f"check that what is in it is yours, then run: chmod go-w {_quoted(path)}",
        )  # fmt: skip


def check_way(path: Path) -> None:
    """``check_own``, and the same for the folders above ``path``, through which another user could replace it.

    A folder where everybody may write but each only replaces what is theirs, such as /tmp, is fine there.
    """
    for start in dict.fromkeys((path.absolute(), path.resolve())):
        for part in reversed(start.parents):
            try:
                found = part.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return
            _check_owner(part, found)
            if not stat.S_ISLNK(found.st_mode) and not found.st_mode & stat.S_ISVTX and _others_write(found):
                raise UnsafePermissionsError(
                    f"may be written by other users (mode {stat.S_IMODE(found.st_mode):04o}), who could replace {path}",
                    where=part, hint=f"run: chmod go-w {_quoted(part)}, or use another --state-dir",
                )  # fmt: skip
        check_own(start)


def check_secret(path: Path, found: os.stat_result | None = None) -> None:
    """Raise ``UnsafePermissionsError`` when others could read the secret in ``path``, or put another in its place.

    ``found`` is what the opened file is.
    """
    found = path.stat() if found is None else found
    _check_owner(path, found)
    by_group = found.st_mode & (stat.S_IRGRP | stat.S_IWGRP)
    if found.st_mode & (stat.S_IROTH | stat.S_IWOTH) or (
        by_group and not _is_private_group(found.st_gid, found.st_uid)
    ):
        raise UnsafePermissionsError(
            f"holds a secret that other users may read or change (mode {stat.S_IMODE(found.st_mode):04o})", where=path,
            hint=f"run: chmod 600 {_quoted(path)}",
        )  # fmt: skip


def give_to_owner_of(folder: Path, path: Path, fd: int) -> None:
    """As root, give ``path`` below ``folder``, which is open as ``fd`` and still empty, to the owner of ``folder``.

    Root may work in a user's folder; the user must be able to read and remove then what root made there. A file that
    has another name too, which may be a link that the user laid, stays as it is.
    """
    if os.geteuid() != 0 or (owner := folder.stat()).st_uid == 0:
        return
    named, opened = path.lstat(), os.fstat(fd)
    is_new = stat.S_ISREG(opened.st_mode) and opened.st_nlink == 1 and opened.st_size == 0
    if is_new and (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino):
        with suppress(PermissionError):  # root without that right
            os.fchown(fd, owner.st_uid, owner.st_gid)


def open_to_others(path: Path) -> bool:
    """Whether other users may change what is in the folder ``path``; an absent one is not."""
    try:
        check_own(path)
    except UnsafePermissionsError:
        return True
    return False


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid in (0, os.geteuid()):
        return
    own = _user(os.geteuid())
    raise UnsafePermissionsError(
        f"belongs to the user {_user(found.st_uid)}, who could change what {own} runs from it", where=path,
        hint=f"if what is in it is yours, run: chown -h {own} {_quoted(path)}; otherwise remove it or use another",
    )  # fmt: skip


def _others_write(found: os.stat_result) -> bool:
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_private_group(found.st_gid, found.st_uid)


def _is_private_group(gid: int, owner: int) -> bool:
    """Whether nobody but ``owner``, root and this process's user is in the group, as with a group for each user."""
    if gid == 0:
        return True
    ours = {0, owner, os.geteuid()}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    if any(entry.pw_gid == gid and entry.pw_uid not in ours for entry in names.values()):
        return False
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:
        return False
    return all(name in names and names[name].pw_uid in ours for name in members)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
