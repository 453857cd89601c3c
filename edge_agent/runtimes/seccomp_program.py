"""The filter of system calls for services without a container, as the kernel takes it (seccomp(2), bpf classic). Pure.

A process is the device's as far as its user goes, so only what a container refuses by name is refused to it, and not
what a container has never heard of: the same calls as in ``seccomp``, by their numbers on each processor.
"""

from __future__ import annotations

import platform
import struct
import sys

from edge_agent.runtimes.seccomp import FAMILY_VSOCK, NEW_NAMESPACES, NOT_PERMITTED, NOT_THERE, PERSONALITIES, REFUSED

# Of new calls the number is the same on every processor.
_EVERYWHERE = {
    "clone3": 435, "fsconfig": 431, "fsmount": 432, "fsopen": 430, "fspick": 433, "io_uring_enter": 426,
    "io_uring_register": 427, "io_uring_setup": 425, "mount_setattr": 442, "move_mount": 429, "open_tree": 428,
    "pidfd_getfd": 438, "process_madvise": 440, "quotactl_fd": 443, "set_mempolicy_home_node": 450,
}  # fmt: skip
_X86_64 = {
    "acct": 163, "add_key": 248, "bpf": 321, "chroot": 161, "clock_settime": 227, "clone": 56, "delete_module": 176,
    "fanotify_init": 300, "finit_module": 313, "get_mempolicy": 239, "init_module": 175, "ioperm": 173, "iopl": 172,
    "kcmp": 312, "kexec_file_load": 320, "kexec_load": 246, "keyctl": 250, "lookup_dcookie": 212, "mbind": 237,
    "migrate_pages": 256, "mount": 165, "move_pages": 279, "nfsservctl": 180, "open_by_handle_at": 304,
    "perf_event_open": 298, "personality": 135, "pivot_root": 155, "query_module": 178, "quotactl": 179, "reboot": 169,
    "request_key": 249, "set_mempolicy": 238, "setdomainname": 171, "sethostname": 170, "setns": 308,
    "settimeofday": 164, "socket": 41, "swapoff": 168, "swapon": 167, "sysfs": 139, "syslog": 103, "umount2": 166,
    "unshare": 272, "uselib": 134, "userfaultfd": 323, "ustat": 136, "vhangup": 153,
}  # fmt: skip
# include/uapi/asm-generic/unistd.h, which newer processors follow.
_GENERIC = {
    "acct": 89, "add_key": 217, "bpf": 280, "chroot": 51, "clock_settime": 112, "clone": 220, "delete_module": 106,
    "fanotify_init": 262, "finit_module": 273, "get_mempolicy": 236, "init_module": 105, "kcmp": 272,
    "kexec_file_load": 294, "kexec_load": 104, "keyctl": 219, "lookup_dcookie": 18, "mbind": 235, "migrate_pages": 238,
    "mount": 40, "move_pages": 239, "nfsservctl": 42, "open_by_handle_at": 265, "perf_event_open": 241,
    "personality": 92, "pivot_root": 41, "quotactl": 60, "reboot": 142, "request_key": 218, "set_mempolicy": 237,
    "setdomainname": 162, "sethostname": 161, "setns": 268, "settimeofday": 170, "socket": 198, "swapoff": 225,
    "swapon": 224, "syslog": 116, "umount2": 39, "unshare": 97, "userfaultfd": 282, "vhangup": 58,
}  # fmt: skip
# Of each processor, how the kernel calls it (include/uapi/linux/audit.h), and its numbers.
_PROCESSORS = {
    "x86_64": (0xC000003E, _X86_64),
    "aarch64": (0xC00000B7, _GENERIC),
    "riscv64": (0xC00000F3, _GENERIC),
}
# Calls of programs with short pointers, on a processor that has both.
_X32_BIT = 0x40000000
# include/uapi/linux/bpf_common.h and seccomp.h.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _PROCESSOR, _ARGUMENTS = 0, 4, 16


def numbers(machine: str) -> dict[str, int]:
    """The numbers of the calls that the filter knows of, on a processor that ``uname -m`` calls ``machine``."""
    _, own = _PROCESSORS[machine]
    return {**_EVERYWHERE, **own}


def program(machine: str | None = None) -> bytes | None:
    """The filter as instructions for this machine, or for ``machine``; ``None`` for a processor that is not known."""
    machine = machine or platform.machine()
    if machine not in _PROCESSORS or sys.byteorder != "little":
        return None
    known, (audit, _) = numbers(machine), _PROCESSORS[machine]
    # Another processor's calls have other numbers.
    lines = [(_LOAD, 0, 0, _PROCESSOR), (_IF_EQUAL, 1, 0, audit), _error(NOT_THERE), (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        lines += [(_IF_AT_LEAST, 0, 1, _X32_BIT), _error(NOT_THERE)]
    for name in sorted(known.keys() & set(REFUSED)):
        lines += [(_IF_EQUAL, 0, 1, known[name]), _error(NOT_PERMITTED)]
    # Its flags are in memory, where no filter sees them; C libraries then use clone.
    lines += [(_IF_EQUAL, 0, 1, known["clone3"]), _error(NOT_THERE)]
    lines += _when(known["clone"], [(_IF_ANY, 0, 1, NEW_NAMESPACES), _error(NOT_PERMITTED)])
    lines += _when(known["socket"], [(_IF_EQUAL, 0, 1, FAMILY_VSOCK), _error(NOT_PERMITTED)])
    allowed = [(_IF_EQUAL, len(PERSONALITIES) - at, 0, one) for at, one in enumerate(PERSONALITIES)]
    lines += _when(known["personality"], [*allowed, _error(NOT_PERMITTED)])
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


_Line = tuple[int, int, int, int]


def _error(number: int) -> _Line:
    return (_RETURN, 0, 0, _ERROR | number)


def _when(number: int, lines: list[_Line]) -> list[_Line]:
    """``lines`` on the first argument of the call ``number``; what they do not refuse is allowed."""
    return [
        (_IF_EQUAL, 0, len(lines) + 2, number), (_LOAD, 0, 0, _ARGUMENTS), *lines, (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
