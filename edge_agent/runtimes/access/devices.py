"""Device nodes that a service is given, and the groups by which its user may open them."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import RuntimeFailedError
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import DeviceNode

_MOST_IN_A_FOLDER = 256


@dataclass(frozen=True)
class Node:
    """A character device of this machine; ``inside`` is where the service sees it."""

    path: str
    inside: str
    access: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


def device_nodes(spec: DesiredService) -> tuple[Node, ...]:
    """The nodes of the devices of ``spec``; raises ``RuntimeFailedError`` for what is not there or not given away."""
    return tuple(node for one in spec.devices for node in _nodes(spec, one))


def _nodes(spec: DesiredService, wanted: DeviceNode) -> Iterator[Node]:
    where, path = f"service {spec.name}", Path(wanted.path)
    try:
        found = path.resolve(strict=True)
        status = found.stat()
        below = sorted(found.iterdir()) if stat.S_ISDIR(status.st_mode) else []
    except OSError as error:
        raise RuntimeFailedError(
            f"device {wanted.path} is not there ({error.strerror})", where=where,
            hint="connect it, or take it out of the desired state",
        ) from error  # fmt: skip
    if not found.is_relative_to("/dev"):
        raise RuntimeFailedError(
            f"{wanted.path} leads to {found}, which is not below /dev", where=where, hint="name the device itself"
        )
    if not stat.S_ISDIR(status.st_mode):
        yield _node(where, wanted, wanted.path, wanted.inside, status)
        return
    inside = [one for one in below if stat.S_ISCHR(one.stat().st_mode)]
    if not inside or len(inside) > _MOST_IN_A_FOLDER:
        raise RuntimeFailedError(
            f"the folder {wanted.path} holds {len(inside) or 'no'} devices", where=where, hint="name the device itself"
        )
    for one in inside:
        yield _node(where, wanted, str(one), f"{wanted.inside}/{one.name}", one.stat())


def _node(where: str, wanted: DeviceNode, path: str, inside: str, status: os.stat_result) -> Node:
    if not stat.S_ISCHR(status.st_mode):
        kind = "a disk" if stat.S_ISBLK(status.st_mode) else "not a device"
        raise RuntimeFailedError(
            f"{path} is {kind}", where=where, hint="name files and folders, of disks too, in mounts and not in devices"
        )
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return Node(path, inside, wanted.access, major, minor, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def groups_for(spec: DesiredService, nodes: tuple[Node, ...], user: tuple[int, int]) -> tuple[int, ...]:
    """The groups that a service of ``user`` must be in to open ``nodes``, beside its own.

    Raises ``RuntimeFailedError`` for a node that no group but root's opens, with what to do about it.
    """
    found: list[int] = []
    for node in nodes:
        wanted = (4 if "r" in node.access else 0) | (2 if "w" in node.access else 0)
        owner, group, others = node.mode >> 6 & 7, node.mode >> 3 & 7, node.mode & 7
        if node.uid == user[0]:
            opens = owner & wanted == wanted
        elif node.gid == user[1]:
            opens = group & wanted == wanted
        else:
            opens = others & wanted == wanted
            if not opens and node.gid != 0 and group & wanted == wanted:
                found.append(node.gid)
                opens = True
        if not opens:
            raise RuntimeFailedError(
                f"its user {user[0]} may not open {node.path} for {node.access}"
                f" (mode {node.mode:04o}, group {_group_name(node.gid)})", where=f"service {spec.name}",
                hint="give the device a group and mode by a rule of udev, such as GROUP=\"sensors\", MODE=\"0660\"",
            )  # fmt: skip
    return tuple(dict.fromkeys(found))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
