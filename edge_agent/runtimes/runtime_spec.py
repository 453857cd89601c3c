"""The ``config.json`` that ``crun`` and ``runc`` read (runtime-spec 1.0, config.md and config-linux.md). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.runtimes import seccomp
from edge_agent.runtimes.access.devices import Node
from edge_agent.runtimes.access.given import NOTHING, SECRETS_VARIABLE, Access, auth_env
from edgepack.errors import IncompatibleError
from edgepack.oci.config import ImageConfig
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import SECRETS_FOLDER

PIDS_LIMIT = 512
OPEN_FILES = 4096
TMP_BYTES = 64 << 20
_INSIDE_PORT = 5001
NOBODY = (65534, 65534)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a container may not see or change of the kernel's settings; the usual engines hide the same set.
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
# A kernel that was built without filters of system calls cannot be given one.
FILTERS = Path("/proc/sys/kernel/seccomp")
# How a service on the device's network finds names: as the device does.
NAMES_OF_HOSTS = ("/etc/hosts", "/etc/resolv.conf")
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Listening(NamedTuple):
    """Where a service is told to listen."""

    address: str
    port: int


def inside_port(config: ImageConfig) -> int:
    """The port that the image's server listens on where it has a network of its own."""
    ports = [port.partition("/") for port in config.exposed_ports]
    return next((int(number) for number, _, kind in ports if number.isdecimal() and kind in ("", "tcp")), _INSIDE_PORT)


def numeric_user(config: ImageConfig) -> tuple[int, int]:
    """The uid and gid of the image's ``USER``; raises ``IncompatibleError`` for one that is given by name."""
    uid, _, gid = (config.user or "0:0").partition(":")
    uid, gid = ("0" if part == "root" else part for part in (uid, gid or uid))
    if not uid.isdecimal() or not gid.isdecimal():
        raise IncompatibleError(
            f"its USER is {config.user!r}, which its /etc/passwd and /etc/group do not have",
            where="image",
            hint="give the user and group as numbers, such as 10001:10001",
        )
    return int(uid), int(gid)


def service_user(config: ImageConfig) -> tuple[int, int]:
    """The uid and gid that a service runs as: the image's ``USER``, or nobody's where that is root.

    Raises ``IncompatibleError`` for one that is given by name.
    """
    user = numeric_user(config)
    return NOBODY if user[0] == 0 else user


def service_env(config: ImageConfig, spec: DesiredService, address: str, port: int) -> dict[str, str]:
    """The service's environment: the image's, overridden by that of ``spec``, and the address to listen on."""
    own = {"EDGEPACK_HOST": address, "EDGEPACK_PORT": str(port)}
    if spec.secrets:
        own[SECRETS_VARIABLE] = SECRETS_FOLDER
    return {"PATH": _PATH, **config.env, **spec.env, **own, **auth_env(spec)}


def runtime_config(
    config: ImageConfig,
    spec: DesiredService,
    cgroup: str | None,
    listening: Listening | None = None,
    access: Access = NOTHING,
    names: Collection[str] = (),
) -> dict[str, Any]:
    """The container's configuration: read-only, no capabilities, few system calls, ``/tmp`` in memory.

    ``cgroup`` names its control group; without one no limits are set. It is in the network of whatever starts it, and
    is told to be ``listening`` there, by default at the address and port of ``spec``. ``access`` is what it is given of
    the device, ``names`` are those of the device's ``NAMES_OF_HOSTS`` that it sees. Raises ``IncompatibleError``.
    """
    uid, gid = service_user(config)
    args = [*config.entrypoint, *config.cmd]
    if not args:
        raise IncompatibleError(
            "has neither an entrypoint nor a command", where=f"image {spec.image}", hint="set its ENTRYPOINT"
        )
    env = service_env(config, spec, *(listening or Listening(spec.address, spec.port)))
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    if FILTERS.exists():
        linux["seccomp"] = seccomp.profile()
    if cgroup is not None:
        linux["cgroupsPath"] = cgroup
        linux["resources"] = _resources(spec, access)
    if access.nodes:
        linux["devices"] = [_device(node) for node in access.nodes]
    user: dict[str, Any] = {"uid": uid, "gid": gid}
    if access.groups:
        user["additionalGids"] = list(access.groups)
    return {
        "ociVersion": "1.0.0",
        "hostname": spec.name,
        "root": {"path": "rootfs", "readonly": True},
        "process": {
            "terminal": False,
            "user": user,
            "args": args,
            "env": [f"{name}={text}" for name, text in env.items()],
            "cwd": config.working_dir or "/",
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "noNewPrivileges": True,
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": OPEN_FILES, "hard": OPEN_FILES},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            ],
        },
        "mounts": [*_mounts(), *(_bind(name, name) for name in names), *_given(access)],
        "linux": linux,
    }


def _resources(spec: DesiredService, access: Access) -> dict[str, Any]:
    allowed = [
        {"allow": True, "type": "c", "major": node.major, "minor": node.minor, "access": node.access}
        for node in access.nodes
    ]
    found: dict[str, Any] = {"pids": {"limit": PIDS_LIMIT}, "devices": [{"allow": False, "access": "rwm"}, *allowed]}
    if spec.memory_bytes is not None:
        found["memory"] = {"limit": spec.memory_bytes}
    if spec.cpus is not None:
        period = 100_000
        found["cpu"] = {"period": period, "quota": max(1000, int(spec.cpus * period))}
    return found


def _device(node: Node) -> dict[str, Any]:
    return {
        "path": node.inside, "type": "c", "major": node.major, "minor": node.minor, "fileMode": node.mode & 0o777,
        "uid": node.uid, "gid": node.gid,
    }  # fmt: skip


def _given(access: Access) -> list[Mapping[str, Any]]:
    return [_bind(str(one.source), one.target, read_only=one.read_only) for one in access.mounts]


def _bind(source: str, target: str, *, read_only: bool = True) -> Mapping[str, Any]:
    """What is mounted below ``source`` is left out, for it would not be read-only."""
    options = ["bind", "nosuid", "nodev", "ro" if read_only else "rw"]
    return {"destination": target, "type": "bind", "source": source, "options": options}


def _mounts() -> list[Mapping[str, Any]]:
    def mount(at: str, kind: str, *options: str) -> Mapping[str, Any]:
        return {"destination": at, "type": kind, "source": kind, "options": list(options)}

    hidden = ("nosuid", "noexec", "nodev")
    return [
        mount("/proc", "proc", *hidden),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        mount("/dev/shm", "tmpfs", *hidden, "mode=1777", f"size={TMP_BYTES}"),  # noqa: S108
        mount("/sys", "sysfs", *hidden, "ro"),
        mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777", f"size={TMP_BYTES}"),  # noqa: S108
    ]
