"""A service's container as arguments of the ``docker`` SDK. Pure."""

from __future__ import annotations

from typing import Any

from edge_agent.runtimes.runtime_spec import OPEN_FILES, PIDS_LIMIT, TMP_BYTES, inside_port
from edgepack.limits import LIMITS
from edgepack.names import check_service_name
from edgepack.oci.config import ImageConfig
from edgepack.state.desired import DesiredService

# Drivers that write files, which grow without end unless they are told not to; others are bounded, or elsewhere.
_OWN = ("/tmp",)  # noqa: S108 - it has a file system of its own
_FILE_DRIVERS = ("json-file", "local", "k8s-file")


def container_name(service: str) -> str:
    """The name of the service's container; raises ``InvalidReferenceError``."""
    return f"edgepack-{check_service_name(service)}"


def container_options(
    spec: DesiredService, config: ImageConfig, *, podman: bool, log_driver: str = "", user: str = ""
) -> dict[str, Any]:
    """Read-only, no capabilities, ``/tmp`` in memory, and one port of the device published to the service's.

    Whatever its base says: no health check of its own, for the agent checks, and no volume that can be written.
    ``log_driver`` is the engine's; a driver that writes files keeps as much as the other runtimes do. ``user`` replaces
    the image's.
    """
    inside = str(inside_port(config))
    options: dict[str, Any] = {
        "name": container_name(spec.name),
        "environment": {**spec.env, "EDGEPACK_HOST": "0.0.0.0", "EDGEPACK_PORT": inside},  # noqa: S104
        "ports": {f"{inside}/tcp": (spec.address, spec.port)},
        "read_only": True,
        "tmpfs": {"/tmp": f"rw,nosuid,nodev,mode=1777,size={TMP_BYTES}"},  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": PIDS_LIMIT,
        "restart_policy": {"Name": "no"},
        "healthcheck": {"test": ["NONE"]},
        "mounts": _read_only(spec, config),
    }
    if log_driver in _FILE_DRIVERS:
        options["log_config"] = _log_config(log_driver)
    if user:
        options["user"] = user
    if spec.memory_bytes is not None:
        options["mem_limit"] = spec.memory_bytes
    if spec.cpus is not None:
        options["nano_cpus"] = int(spec.cpus * 1e9)
    if podman:  # its defaults raise the limits, which a machine may not allow
        options["ulimits"] = [{"Name": name, "Soft": OPEN_FILES, "Hard": OPEN_FILES} for name in ("nofile", "nproc")]
    return options


def volume_prefix(service: str) -> str:
    """What the names of the service's volumes begin with."""
    return f"{container_name(service)}."


def _read_only(spec: DesiredService, config: ImageConfig) -> list[dict[str, Any]]:
    """For each volume of the image one that cannot be written, with what the image has there.

    An engine would make one that can be. They are named by the image, for an engine fills a volume only once.
    """
    paths = [path for path in sorted(config.other.get("Volumes") or {}) if path not in _OWN]
    prefix = f"{volume_prefix(spec.name)}{spec.image.hex[:16]}"
    return [
        {"Type": "volume", "Target": path, "Source": f"{prefix}.{number}", "ReadOnly": True}
        for number, path in enumerate(paths)
    ]


def _log_config(driver: str) -> dict[str, Any]:
    options = {"max-size": str(LIMITS.log_bytes)}
    if driver != "k8s-file":  # Podman's own, which keeps one file
        options["max-file"] = "2"
    return {"type": driver, "config": options}
