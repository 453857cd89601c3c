"""A service's container as an engine is asked for it, in the words of Docker's HTTP interface. Pure."""

from __future__ import annotations

from typing import Any

from edge_agent.runtimes.access.given import NOTHING, SECRETS_VARIABLE, Access, auth_env
from edge_agent.runtimes.runtime_spec import OPEN_FILES, PIDS_LIMIT, TMP_BYTES, inside_port
from edgepack.limits import LIMITS
from edgepack.names import check_service_name
from edgepack.oci.config import ImageConfig
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import SECRETS_FOLDER

# Drivers that write files, which grow without end unless they are told not to; others are bounded, or elsewhere.
_OWN = ("/tmp",)  # noqa: S108 - it has a file system of its own
_FILE_DRIVERS = ("json-file", "local", "k8s-file")


def container_name(service: str) -> str:
    """The name of the service's container; raises ``InvalidReferenceError``."""
    return f"edgepack-{check_service_name(service)}"


def container_options(
    spec: DesiredService,
    config: ImageConfig,
    *,
    podman: bool,
    log_driver: str = "",
    user: str = "",
    access: Access = NOTHING,
    listens: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """Read-only, no capabilities, ``/tmp`` in memory, and one port of the device published to the service's.

    Whatever its base says: no health check of its own, for the agent checks, and no volume that can be written.
    ``log_driver`` is the engine's; a driver that writes files keeps as much as the other runtimes do, and replaces one
    that could not keep the quota of ``spec``. ``user`` replaces the image's; ``access`` is what it gets of the device.
    """
    address, port = listens or (spec.address, spec.port)
    inside, published = f"{inside_port(config)}/tcp", spec.network != "device"
    environment = {**spec.env, "EDGEPACK_HOST": address, "EDGEPACK_PORT": str(port)}
    if published:
        environment |= {"EDGEPACK_HOST": "0.0.0.0", "EDGEPACK_PORT": str(inside_port(config))}  # noqa: S104
    if spec.secrets:
        environment[SECRETS_VARIABLE] = SECRETS_FOLDER
    environment |= auth_env(spec)
    host: dict[str, Any] = {
        "NetworkMode": "default" if published else "host",
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": f"rw,nosuid,nodev,mode=1777,size={TMP_BYTES}"},  # noqa: S108
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": PIDS_LIMIT,
        "RestartPolicy": {"Name": "no"},
        "Mounts": [*_read_only(spec, config), *_binds(access)],
        "GroupAdd": [str(group) for group in access.groups],
        "Devices": [
            {"PathOnHost": one.path, "PathInContainer": one.inside, "CgroupPermissions": one.access}
            for one in access.nodes
        ],
    }
    options: dict[str, Any] = {
        "Env": [f"{name}={text}" for name, text in environment.items()],
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }
    if published:
        options["ExposedPorts"] = {inside: {}}
        host["PortBindings"] = {inside: [{"HostIp": address, "HostPort": str(port)}]}
    if spec.log_bytes is not None and log_driver not in _FILE_DRIVERS:
        log_driver = "k8s-file" if podman else "json-file"
    if log_driver in _FILE_DRIVERS:
        host["LogConfig"] = _log_config(log_driver, spec.log_bytes)
    if user:
        options["User"] = user
    if spec.memory_bytes is not None:
        host["Memory"] = spec.memory_bytes
    if spec.cpus is not None:
        host["NanoCpus"] = int(spec.cpus * 1e9)
    if podman:  # its defaults raise the limits, which a machine may not allow
        host["Ulimits"] = [{"Name": name, "Soft": OPEN_FILES, "Hard": OPEN_FILES} for name in ("nofile", "nproc")]
    return options


def volume_prefix(service: str) -> str:
    """What the names of the service's volumes begin with."""
    return f"{container_name(service)}."


def _read_only(spec: DesiredService, config: ImageConfig) -> list[dict[str, Any]]:
    """For each volume of the image one that cannot be written, with what the image has there.

    An engine would make one that can be. They are named by the image, for an engine fills a volume only once.
    """
    taken = (*_OWN, *(one.target for one in spec.mounts))
    paths = [path for path in sorted(config.other.get("Volumes") or {}) if path not in taken]
    prefix = f"{volume_prefix(spec.name)}{spec.image.hex[:16]}"
    return [
        {"Type": "volume", "Target": path, "Source": f"{prefix}.{number}", "ReadOnly": True}
        for number, path in enumerate(paths)
    ]


def _binds(access: Access) -> list[dict[str, Any]]:
    """What is mounted below a source is left out, for an engine would not make it read-only."""
    return [
        {
            "Type": "bind", "Source": str(one.source), "Target": one.target, "ReadOnly": one.read_only,
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
        }
        for one in access.mounts
    ]  # fmt: skip


def _log_config(driver: str, log_bytes: int | None) -> dict[str, Any]:
    part = LIMITS.log_bytes if log_bytes is None else log_bytes // 2
    if driver == "k8s-file":  # Podman's own, which keeps one file
        return {"Type": driver, "Config": {"max-size": str(log_bytes or part)}}
    return {"Type": driver, "Config": {"max-size": str(part), "max-file": "2"}}
