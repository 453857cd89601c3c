"""The inside of the sandbox: a private root file system, then no privileges at all.

``enter`` runs in a process that ``unshare`` has put in its own user, mount, network, PID, IPC and UTS
namespaces. It builds a root of nothing but the interpreter, the libraries and the paths it is told,
read-only but for the writable ones, moves into it, and gives up every capability for good, so that
code run later can neither see the rest of the machine nor change the mounts.

Only the standard library and the C library's own functions: ``mount(2)``, ``pivot_root(2)``,
``mount_setattr(2)``, ``capset(2)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# <linux/mount.h>
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MNT_DETACH = 0x2
# mount_setattr(2) has one number on every architecture, and no wrapper in older C libraries.
SYS_MOUNT_SETATTR = 442
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 0x1, 0x2
# <linux/prctl.h>, <linux/capability.h>
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x20080522

SYSTEM_PATHS = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/alternatives",  # where Debian's BLAS is found
    "/etc/localtime",
    "/sys/devices/system/cpu",  # how numeric libraries count cores
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
)


class JailError(Exception):
    """A namespace, mount or privilege that this kernel does not provide."""


@dataclass(frozen=True)
class Confinement:
    """The limits and the jail of a child of ``converters.sandbox.launch``, set before it opens anything untrusted.

    ``root`` is an empty folder to build the jail on, or None for limits only; ``memory`` and ``file_size`` are
    bytes; paths are absolute.
    """

    root: str | None
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    memory: int
    file_size: int

    def take(self) -> None:
        """Set the limits and, where asked, enter the jail. Raises ``JailError``."""
        for kind, value in ((resource.RLIMIT_AS, self.memory), (resource.RLIMIT_FSIZE, self.file_size)):
            hard = resource.getrlimit(kind)[1]
            limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if self.root is not None:
            enter(Path(self.root), [Path(text) for text in self.readable], [Path(text) for text in self.writable])


def enter(root: Path, readable: Sequence[Path], writable: Sequence[Path]) -> None:
    """Leave the machine's files for a root, built on folder ``root``, that shows only the given paths.

    What is not ``writable`` is read-only. Paths are absolute and keep their names inside.
    Raises ``JailError`` when the kernel refuses a step; the
    process must then not go on to anything untrusted.
    """
    libc = _Libc()
    try:
        libc.mount(None, "/", None, MS_REC | MS_PRIVATE)
        libc.mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=4m")
        _furnish(libc, root, readable, writable)
        os.chdir(root)
        libc.pivot_root(".", ".")
        libc.umount(".", MNT_DETACH)
        os.chdir("/")
        # Mount points and links stand; nothing else is to be written outside of the writable paths.
        libc.restrict("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, recursive=False)
    except OSError as error:
        raise JailError(f"{error.filename or 'namespace'}: {error.strerror}") from error
    libc.drop_privileges()


def _furnish(libc: _Libc, root: Path, readable: Sequence[Path], writable: Sequence[Path]) -> None:
    for scratch, size in (("tmp", "512m"), ("dev/shm", "512m")):
        (root / scratch).mkdir(parents=True)
        libc.mount("tmpfs", root / scratch, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={size}")
    (root / "proc").mkdir()
    with contextlib.suppress(PermissionError):  # inside some containers; the libraries do without
        libc.mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # A folder is bound before what is in it, so that the inner one is not hidden.
    for path in sorted({*map(Path, SYSTEM_PATHS), *readable}):
        _bind(libc, root, path)
        if not path.is_symlink() and path.exists():
            libc.restrict(root / path.relative_to("/"), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, recursive=True)
    for path in sorted(writable):
        _bind(libc, root, path)


def _bind(libc: _Libc, root: Path, path: Path) -> None:
    target = root / path.relative_to("/")
    if path.is_symlink():  # /lib -> usr/lib on merged systems
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path.readlink())
        return
    if not path.exists():
        return
    if path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    libc.mount(path, target, None, MS_BIND | MS_REC)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _MountAttr(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd"))


class _Libc:
    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not all(hasattr(self._libc, name) for name in ("mount", "umount2", "pivot_root", "capset", "prctl")):
            raise JailError("the C library has no mount functions")

    def mount(
        self, source: str | Path | None, target: str | Path, kind: str | None, flags: int, data: str | None = None
    ) -> None:
        texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
        options = None if data is None else data.encode()
        self._check(self._libc.mount(*texts, ctypes.c_ulong(flags), options), target)

    def umount(self, target: str, flags: int) -> None:
        self._check(self._libc.umount2(target.encode(), flags), target)

    def pivot_root(self, new: str, old: str) -> None:
        self._check(self._libc.pivot_root(new.encode(), old.encode()), new)

    def restrict(self, target: str | Path, attributes: int, *, recursive: bool) -> None:
        """Add mount attributes; unlike a remount this keeps the ones that the kernel has locked."""
        wanted = _MountAttr(attributes, 0, 0, 0)
        flags = AT_RECURSIVE if recursive else 0
        result = self._libc.syscall(
            ctypes.c_long(SYS_MOUNT_SETATTR),
            ctypes.c_int(AT_FDCWD),
            os.fsencode(target),
            ctypes.c_uint(flags),
            ctypes.byref(wanted),
            ctypes.c_size_t(ctypes.sizeof(wanted)),
        )
        self._check(result, target)

    def drop_privileges(self) -> None:
        """Give up every capability, also for programs started later."""
        prctl = self._libc.prctl
        try:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
            capability = 0
            while prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
                capability += 1
            self._check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
            header, none = _Header(CAPABILITY_VERSION_3, 0), (_Sets * 2)()
            self._check(self._libc.capset(ctypes.byref(header), ctypes.byref(none)), "capset")
        except OSError as error:
            raise JailError(f"{error.filename}: {error.strerror}") from error

    @staticmethod
    def _check(result: int, target: object) -> None:
        if result != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(target))


def main(arguments: Sequence[str]) -> int:
    """Try a jail on the first path that shows the others; 0 when it stands, else 1 and the reason on stderr."""
    root, *readable = map(Path, arguments)
    try:
        enter(root, readable, [])
    except JailError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
