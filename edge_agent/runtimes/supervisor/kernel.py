"""Calls of the kernel that Python 3.11 does not have: namespaces(7), mount(2), prctl(2), seccomp(2)."""

from __future__ import annotations

import fcntl
import os

NEW_MOUNTS, NEW_NETWORK = 0x20000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 32, 4096, 16384, 262144
DETACH = 2
_MOUNT_SETATTR, _FROM_HERE, _RECURSIVELY = 442, -100, 0x8000
_NO_NEW_PRIVILEGES, _CHILD_SUBREAPER, _FILTER_CALLS, _DROP_FROM_BOUNDING_SET = 38, 36, 22, 24
_BY_PROGRAM = 2
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def unshare(flags: int) -> None:
    """Move this process into namespaces of its own; raises ``OSError``."""
    _call("unshare", flags)


def seal(path: str, *, read_only: bool) -> None:
    """Make the mount at ``path`` read-only, with all below it, or writable alone; raises ``OSError``."""
    import ctypes

    class Attributes(ctypes.Structure):  # mount_setattr(2)
        _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))

    wanted = Attributes(READ_ONLY, 0, 0, 0) if read_only else Attributes(0, READ_ONLY, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    flags = _RECURSIVELY if read_only else 0
    _call(
        "syscall", _MOUNT_SETATTR, ctypes.c_int(_FROM_HERE), os.fsencode(path), flags, ctypes.byref(wanted), size,
        name=path,
    )  # fmt: skip


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount ``source`` at ``target``; raises ``OSError``."""
    words = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _call("mount", *words, flags, None if data is None else os.fsencode(data), name=target)


def unmount(target: str) -> None:
    """Take the mount at ``target`` away, also while it is in use; raises ``OSError``."""
    _call("umount2", os.fsencode(target), DETACH, name=target)


def own_mounts() -> None:
    """Give this process mounts of its own, so that the device's stay as they are; raises ``OSError``."""
    unshare(NEW_MOUNTS)
    mount("none", "/", None, RECURSIVE | PRIVATE)


def forbid_new_privileges() -> None:
    """Let nothing that this process starts gain privileges, by set-user-id programs for one; raises ``OSError``."""
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def drop_capabilities() -> None:
    """Take away what this process and those that it starts could ever gain of root's rights (capabilities(7))."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for number in range(last + 1):
        _call("prctl", _DROP_FROM_BOUNDING_SET, number, 0, 0, 0)


def filter_calls(instructions: bytes) -> None:
    """Let the kernel answer the calls of this process, and of those that it starts, as the program says (seccomp(2)).

    New privileges must be forbidden before. Raises ``OSError``.
    """
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    data = ctypes.create_string_buffer(instructions, len(instructions))
    found = Program(len(instructions) // 8, ctypes.addressof(data))
    _call("prctl", _FILTER_CALLS, _BY_PROGRAM, ctypes.byref(found), 0, 0)


def adopt_orphans() -> None:
    """Let what the children of this process leave running become children of this process (prctl(2))."""
    _call("prctl", _CHILD_SUBREAPER, 1, 0, 0, 0)


def children(parent: int) -> list[int]:
    """The children of the process ``parent`` (proc(5), ``/proc/[pid]/stat``), those that have ended among them."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would cost memory
        try:
            with open(f"/proc/{int(name)}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(name))
        except (ValueError, FileNotFoundError, ProcessLookupError):
            continue
    return found


def own_network() -> None:
    """Give this process a network of its own with nothing but a loopback interface; raises ``OSError``."""
    import socket

    unshare(NEW_NETWORK)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # netdevice(7): a name in 16 bytes, then the flags.
        request = bytearray(fcntl.ioctl(control, _GET_FLAGS, b"lo".ljust(40, b"\0")))
        request[16] |= _UP
        fcntl.ioctl(control, _SET_FLAGS, bytes(request))
    try:
        # Nobody else is here to be protected from a service on a low port.
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w", encoding="ascii") as setting:
            setting.write("0")
    except OSError:
        pass  # a kernel before 4.11, or settings that cannot be written


def _call(function: str, *arguments: object, name: str | None = None) -> None:
    import ctypes

    values = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*values):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
