"""What a service may use of its device: files and folders, device nodes, secrets, and the network that it is in.

What is wrong in any document is refused here; whether a device has what is wanted, and may give it away, is seen on the
device, before the service is started.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from edgepack.documents import Fields
from edgepack.errors import InvalidReferenceError, UsageError
from edgepack.state.service_auth import AUTH_FOLDER

_T = TypeVar("_T")
Network = Literal["own", "device"]
NETWORKS: tuple[Network, ...] = ("own", "device")
# Where a service finds its secrets, each in a file of its name.
SECRETS_FOLDER = "/run/secrets"
_NAMING_RULE = "use 1 to 64 letters, digits, '.', '_' and '-', starting with a letter or digit"
_SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST = 64
_PATH_BYTES = 4095  # PATH_MAX, limits.h, without the final zero
# Where nothing can be mounted, nor in it, nor over what it is in; each with what it is.
_TAKEN = {
    "/dev": "holds device nodes, which devices names",
    "/etc/hostname": "is written by the runtime",
    "/etc/hosts": "is written by the runtime",
    "/etc/resolv.conf": "is written by the runtime",
    "/opt/edgepack": "holds the image's server and its configuration",
    "/proc": "is the kernel's",
    AUTH_FOLDER: "holds what callers show, which auth says",
    SECRETS_FOLDER: "holds the secrets, which secrets names",
    "/sys": "is the kernel's",
    "/tmp": "is in memory, and the service's own",  # noqa: S108
    "/var/azureml-app": "holds the image's models and code",
    **dict.fromkeys(
        ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr"), "holds the image's programs and libraries"
    ),
}
_SOURCES_OF_THE_KERNEL = ("/dev", "/proc", "/sys")
# The whole memory of the device, or its ports of input and output: who has them has everything.
_NO_DEVICES = ("/dev/kmem", "/dev/mem", "/dev/port")
# Every container has these of its own.
_OWN_DEVICES = frozenset(
    f"/dev/{name}"
    for name in (
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
        "tty", "urandom", "zero",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Mount:
    """A file or folder ``source`` of the device that the service sees at ``target``; both are absolute paths."""

    source: str
    target: str
    read_only: bool = True

    def to_json(self) -> dict[str, object]:
        """The mount as a document shows it."""
        return {"source": self.source, "target": self.target, **({} if self.read_only else {"read_only": False})}


@dataclass(frozen=True)
class DeviceNode:
    """A character device ``path``, or a folder of them, that the service sees at ``inside``.

    ``access`` has ``r`` for reading, ``w`` for writing, ``m`` for making the node again.
    """

    path: str
    target: str | None = None
    access: str = "rw"

    @property
    def inside(self) -> str:
        """Where the service finds it."""
        return self.target or self.path

    def to_json(self) -> dict[str, object]:
        """The device as a document shows it."""
        found: dict[str, object] = {"path": self.path}
        if self.target is not None:
            found["target"] = self.target
        if self.access != "rw":
            found["access"] = self.access
        return found


def check_secret_name(text: str) -> str:
    """``text`` when it can name a secret; raises ``InvalidReferenceError``."""
    if not _SECRET.fullmatch(text):
        raise InvalidReferenceError(f"{text[:80]!r} is not the name of a secret", hint=_NAMING_RULE)
    return text


def overlap(one: str, other: str) -> bool:
    """Whether two absolute paths are the same, or one of them is inside the other."""
    return one == other or other.startswith(f"{one.rstrip('/')}/") or one.startswith(f"{other.rstrip('/')}/")


def read_mounts(fields: Fields) -> tuple[Mount, ...]:
    """The field ``mounts``; errors become violations of ``fields``."""
    found = []
    for item in _most(fields, "mounts", fields.each("mounts", required=False)):
        source, target = item.parsed("source", absolute_path), item.parsed("target", absolute_path)
        read_only = item.take("read_only", bool, True)
        item.finish()
        if source == "/":
            item.wrong("source", "must not be /: it holds everything of the device")
        elif source is not None and any(overlap(source, one) for one in _SOURCES_OF_THE_KERNEL):
            item.wrong("source", f"must not be {source}: nothing of the kernel's is shared, and devices names devices")
        if target is not None and (taken := next((one for one in _TAKEN if overlap(one, target)), None)):
            item.wrong("target", f"must not be {target}: {taken} {_TAKEN[taken]}")
        if source and target:
            found.append(Mount(source, target, bool(read_only)))
    _check_apart(fields, "mounts", [one.target for one in found])
    return tuple(found)


def read_devices(fields: Fields) -> tuple[DeviceNode, ...]:
    """The field ``devices``; errors become violations of ``fields``."""
    found = []
    for item in _most(fields, "devices", fields.each("devices", required=False)):
        path, target = item.parsed("path", absolute_path), item.parsed("target", absolute_path, required=False)
        access = item.take("access", str, "rw") or ""
        item.finish()
        if path is not None and (not path.startswith("/dev/") or path in _NO_DEVICES):
            item.wrong("path", "must be a device below /dev that is not the device's whole memory")
        if target is not None and not target.startswith("/dev/"):
            item.wrong("target", "must be below /dev")
        inside = target or path or ""
        if any(overlap(inside, one) for one in _OWN_DEVICES if inside.startswith("/dev/")):
            item.wrong("target" if target else "path", f"must not be {inside}: every service has one of its own")
        if not access or sorted(access) != sorted(set(access) & set("rwm")):
            item.wrong("access", "must be made of r, w and m, each once")
        if path:
            found.append(DeviceNode(path, target, access))
    _check_apart(fields, "devices", [one.inside for one in found])
    return tuple(found)


def read_secrets(fields: Fields) -> tuple[str, ...]:
    """The field ``secrets``, a list of names; errors become violations of ``fields``."""
    found: list[str] = []
    for at, name in enumerate(_most(fields, "secrets", fields.take("secrets", list) or [])):
        if not isinstance(name, str) or not _SECRET.fullmatch(name):
            fields.wrong(f"secrets[{at}]", f"must be the name of a secret: {_NAMING_RULE}")
        elif name in found:
            fields.wrong("secrets", f"list {name!r} twice")
        else:
            found.append(name)
    return tuple(found)


def _most(fields: Fields, key: str, items: Sequence[_T]) -> Sequence[_T]:
    if len(items) > _MOST:
        fields.wrong(key, f"must be at most {_MOST}")
    return items[:_MOST]


def _check_apart(fields: Fields, key: str, inside: Collection[str]) -> None:
    """Let no two be at the same place, and none inside another: which one hides which would not be said."""
    seen: list[str] = []
    for path in inside:
        if (other := next((one for one in seen if overlap(one, path)), None)) is not None:
            fields.wrong(key, f"must not have {path} beside {other}")
        seen.append(path)


def absolute_path(text: str) -> str:
    """``text`` when it is an absolute path without detours; raises ``UsageError``."""
    parts = text.split("/")[1:]
    plain = text.startswith("/") and (text == "/" or not {"", ".", ".."} & set(parts))
    if not plain or not text.isprintable() or len(text.encode()) > _PATH_BYTES:
        raise UsageError(f"{text[:200]!r} is not an absolute path such as /srv/data, without . or .. in it")
    return text
