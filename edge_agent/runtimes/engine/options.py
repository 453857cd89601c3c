"""A service's container as arguments of the ``docker`` SDK. Pure."""

from __future__ import annotations

from typing import Any

from edge_agent.runtimes.runtime_spec import OPEN_FILES, PIDS_LIMIT, TMP_BYTES
from edgepack.names import check_service_name
from edgepack.oci.config import ImageConfig
from edgepack.state.desired import DesiredService

_CONTAINER_PORT = "5001"


def container_name(service: str) -> str:
    """The name of the service's container; raises ``InvalidReferenceError``."""
    return f"edgepack-{check_service_name(service)}"


def container_options(spec: DesiredService, config: ImageConfig, *, podman: bool) -> dict[str, Any]:
    """Read-only, no capabilities, ``/tmp`` in memory, and one port of the device published to the service's."""
    inside = config.exposed_ports[0].partition("/")[0] if config.exposed_ports else _CONTAINER_PORT
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
    }
    if spec.memory_bytes is not None:
        options["mem_limit"] = spec.memory_bytes
    if spec.cpus is not None:
        options["nano_cpus"] = int(spec.cpus * 1e9)
    if podman:  # its defaults raise the limits, which a machine may not allow
        options["ulimits"] = [{"Name": name, "Soft": OPEN_FILES, "Hard": OPEN_FILES} for name in ("nofile", "nproc")]
    return options
