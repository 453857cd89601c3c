"""A workload as a Compose file, for ``docker compose`` and ``podman-compose``."""

from __future__ import annotations

from typing import Any

from packager.exports.exported import Exported
from packager.exports.podman import health_command
from packager.exports.pods import temporary_bytes
from packager.exports.workload import AUTH_FILES, COLLECTION_FOLDER, Workload
from packager.exports.yaml_text import yaml_text

_LOG = {"max-size": "10m", "max-file": "3"}


def export_compose(workload: Workload, *, pulls: bool) -> Exported:
    """``compose.yaml``; ``pulls`` says that the image is in a registry."""
    how = [
        *([] if pulls else [f"Load the image first: edgepack package push {workload.package} docker-daemon:"
                            f"{workload.package}", "or with Podman: edgepack package push"
                            f" {workload.package} oci-archive:image.tar, podman load --input image.tar"]),
        "Run it: docker compose up --detach",
    ]  # fmt: skip
    notes = []
    if workload.auth != "none":
        notes.append(f"put {AUTH_FILES[workload.auth]} into the folder auth beside compose.yaml, readable by the user"
                     f" {workload.user}")  # fmt: skip
    if workload.tls:
        notes.append(f"put tls.crt and tls.key into the folder tls beside it, readable by the user {workload.user}")
    return Exported({"compose.yaml": yaml_text(compose(workload, pulls=pulls), comment=how)}, tuple(notes))


def compose(workload: Workload, *, pulls: bool) -> dict[str, Any]:
    """The document: one service, which can write nothing but ``/tmp``."""
    here = workload.loaded
    given = here.resources
    service: dict[str, Any] = {
        # An engine that loaded an image knows it by its tag; its digest is of the registry that it came from.
        "image": here.image if pulls else here.package,
        "pull_policy": "missing" if pulls else "never",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "user": f"{here.user}:{here.group}",
        "init": False,
        "mem_limit": given.most_memory,
        **({"cpus": given.cpu_limit} if given.cpu_limit is not None else {}),
        "pids_limit": 512,
        "environment": dict(sorted(here.settings.items())),
        "ports": [f"127.0.0.1:{here.host_port or here.port}:{here.port}"],
        "tmpfs": [f"/tmp:size={temporary_bytes(here)},mode=1777"],  # noqa: S108 - inside the container
        "healthcheck": {
            "test": ["CMD", *health_command(here)],
            "interval": f"{here.probe.period_seconds}s",
            "timeout": f"{here.probe.timeout_seconds + 1}s",
            "retries": here.probe.failures,
            "start_period": f"{here.probe.start_seconds}s",
        },
        "stop_grace_period": f"{here.end_seconds}s",
        "restart": "unless-stopped",
        "logging": {"driver": "json-file", "options": dict(_LOG)},
    }
    volumes = [f"./{name}:{folder}:ro" for name, folder in here.mounted]
    if here.collects:
        volumes.append(f"collected:{COLLECTION_FOLDER}")
    if volumes:
        service["volumes"] = volumes
    found: dict[str, Any] = {"name": here.name, "services": {here.name: service}}
    if here.collects:
        found["volumes"] = {"collected": {}}
    return found
