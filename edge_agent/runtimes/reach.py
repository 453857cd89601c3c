"""What a service's own user may reach of the device's files, and a way to what it may not. Changes nothing.

A folder such as ``/root`` lets nobody in. In mounts of its own (mount_namespaces(7)) a service is shown an empty folder
in its place, with nothing in it but what the service needs.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from edge_agent.runtimes.supervisor.job import View
from edgepack.errors import IncompatibleError

User = tuple[int, int]


def views(folders: Sequence[Path], user: User) -> list[View]:
    """The views with which ``user`` reaches ``folders``; none where it reaches them as things are.

    Raises ``IncompatibleError`` for a folder that is itself closed to ``user``.
    """
    shown: dict[str, list[str]] = {}
    for folder in dict.fromkeys(path.resolve() for path in folders):
        closed = next((part for part in reversed(folder.parents) if not _may_enter(part, user)), None)
        if not _may_enter(folder, user):
            raise IncompatibleError(
                f"its user {user[0]} may not enter {folder}",
                hint="give the agent another --state-dir and apply again, or use --runtime docker or crun",
            )
        if closed is not None:
            shown.setdefault(str(closed), []).append(str(folder))
    return [{"cover": cover, "show": paths} for cover, paths in shown.items()]


def closed_to(path: Path, user: User) -> Path | None:
    """The first folder on the way to ``path`` that ``user`` may not enter."""
    return next((part for part in reversed(path.resolve().parents) if not _may_enter(part, user)), None)


def _may_enter(folder: Path, user: User) -> bool:
    """As the kernel decides without access control lists (path_resolution(7))."""
    found = folder.stat()
    if found.st_uid == user[0]:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == user[1]:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def can_arrange_mounts() -> bool:
    """Whether this process may give a service mounts of its own: ``CAP_SYS_ADMIN``, capabilities(7)."""
    return os.geteuid() == 0 and has_capability(21)


def can_seal() -> bool:
    """Whether the kernel can make all mounts of a process read-only at once: ``mount_setattr``, from Linux 5.12 on."""
    major, minor = re.match(r"(\d+)\.(\d+)", os.uname().release + ".0").groups()  # type: ignore[union-attr]
    return (int(major), int(minor)) >= (5, 12)


def has_capability(number: int) -> bool:
    """Whether this process has the capability of that number in effect (capabilities(7))."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        name, _, text = line.partition(":")
        if name == "CapEff":
            return bool(int(text, 16) >> number & 1)
    return False
