"""Secrets as files: kept in the device's folder ``secrets``, shown to one service, in memory where it can be.

A service sees copies that are made at its start and removed at its end, so a secret that is replaced is seen at the
next start. They are in a file system in memory of the device, in a folder that only the agent's user may enter;
what a runtime is told, and what a container engine shows of a container, is the path of the copies.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edgepack.errors import RuntimeFailedError, disk_errors
from edgepack.host.removal import remove_tree
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)
# The folder of the device's secrets, below its own.
SECRETS = "secrets"
_IN_MEMORY = ("tmpfs", "ramfs")
User = tuple[int, int]


class Secrets:
    """The secrets of the device whose folder is ``state``, and the copies for the services of one ``runtime``."""

    def __init__(self, state: Path, runtime: str) -> None:
        self._folder = state / SECRETS
        self._state = state
        self._runtime = runtime

    def check(self, spec: DesiredService) -> None:
        """Raise ``RuntimeFailedError`` for a secret that is not there, or that others could read."""
        for name in spec.secrets:
            self._read(spec, name)

    def place(self, spec: DesiredService, user: User | None, instance: str | None = None) -> Path | None:
        """The folder of copies for ``spec``, made anew, readable by ``user`` alone; ``None`` for a service without any.

        They are for the ``instance`` of that name, by default the service's.
        An agent that is not root cannot give files away: without ``user`` the copies stay its own, and with one
        whoever gets to the folder may read them, which the folder above allows to the agent and to the service.
        """
        instance = instance or spec.name
        self.remove(instance)
        if not spec.secrets:
            return None
        data = {name: self._read(spec, name) for name in spec.secrets}
        above = self._above()
        with disk_errors(above):
            folder = self._make(above, instance)
            shared = user is not None and os.geteuid() != 0
            for name, text in data.items():
                with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(text)
                    os.fchmod(file.fileno(), 0o444 if shared else 0o400)
                    if user is not None and not shared:
                        os.fchown(file.fileno(), *user)
            if user is not None and not shared:
                os.chown(folder, *user)
            folder.chmod(0o555 if shared else 0o500)
        return folder

    def remove(self, instance: str) -> None:
        """Remove the copies for ``instance``, wherever they were made; absent is fine."""
        for above in self._places():
            folder = above / self._own(instance)
            if above.is_symlink():  # it is somebody else's
                continue
            if folder.is_dir() and not folder.is_symlink():
                with disk_errors(above):
                    if folder.stat().st_uid == os.geteuid():
                        folder.chmod(0o700)
                    remove_tree(folder)
            with suppress(OSError):  # absent, or with the copies of another service
                above.rmdir()

    def _make(self, above: Path, instance: str) -> Path:
        """The folder for the copies of ``instance``; the one above it may be removed meanwhile, for it was empty."""
        folder = above / self._own(instance)
        while True:
            _make_private(above)
            with suppress(FileNotFoundError):
                folder.mkdir(mode=0o700)
                return folder

    def _own(self, instance: str) -> str:
        return f"{self._runtime}-{instance}"

    def _places(self) -> Iterator[Path]:
        """Where copies may be, best first; the last is on the disk."""
        name = f"edgepack-secrets-{Digest.of(os.fsencode(self._state.resolve())).hex[:12]}"
        run = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        for base in (run, "/dev/shm"):  # noqa: S108 - what is made there is private
            yield Path(base) / name
        yield self._state / "run" / name

    def _above(self) -> Path:
        *in_memory, on_disk = self._places()
        for place in in_memory:
            if _file_system(place.parent) in _IN_MEMORY and os.access(place.parent, os.W_OK | os.X_OK):
                return place
        _log.warning("secrets are copied to the disk, for this device has no file system in memory that takes them")
        return on_disk

    def _read(self, spec: DesiredService, name: str) -> bytes:
        path, where = self._folder / name, f"service {spec.name}"
        with suppress(OSError):
            self._folder.chmod(0o700)  # whoever made it: the names are nobody's business either
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise RuntimeFailedError(
                f"secret {name} is not on this device", where=where,
                hint=f"put it there: install -D -m 600 FILE {path}",
            ) from None  # fmt: skip
        except OSError as error:
            raise RuntimeFailedError(
                f"secret {name} cannot be read ({error.strerror})", where=where, hint=f"look at {path}"
            ) from error
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise RuntimeFailedError(f"secret {name} is not a file", where=where, hint=f"look at {path}")
            if found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
                raise RuntimeFailedError(
                    f"secret {name} is open to other users", where=where,
                    hint=f"run: chown {os.geteuid()} {path} && chmod 600 {path}",
                )  # fmt: skip
            data = file.read(LIMITS.secret_bytes + 1)
        if len(data) > LIMITS.secret_bytes:
            raise RuntimeFailedError(
                f"secret {name} has more than {LIMITS.secret_bytes} bytes", where=where,
                hint="give large files by mounts",
            )  # fmt: skip
        return data


def _make_private(folder: Path) -> None:
    """Make ``folder``, or make sure that it is this user's alone: others may write beside it."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise RuntimeFailedError(
                "it is not a folder of this user alone", where=folder, hint=f"remove it: rm -r {folder}"
            ) from None


def _file_system(path: Path) -> str:
    """The type of the file system that ``path`` is on (proc(5), ``/proc/[pid]/mountinfo``)."""
    try:
        wanted = path.stat().st_dev
    except OSError:
        return ""
    number = f"{os.major(wanted)}:{os.minor(wanted)}"
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        first, _, second = line.partition(" - ")
        if first.split()[2] == number:
            return second.split()[0]
    return ""
