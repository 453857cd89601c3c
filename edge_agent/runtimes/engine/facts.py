"""What an engine can and cannot do for a service, by what it says of itself. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.errors import IncompatibleError
from edgepack.state.desired import DesiredService


@dataclass(frozen=True)
class Facts:
    """``log_driver`` writes the logs of containers that say nothing of it.

    ``remaps``: users in containers are others on the device. ``rootless``: it runs as a user without rights. ``lacks``:
    the limits that it would drop in silence, as fields of a desired state.
    """

    log_driver: str = ""
    remaps: bool = False
    rootless: bool = False
    lacks: frozenset[str] = frozenset()


def of_docker(info: Mapping[str, Any]) -> Facts:
    """Those of ``GET /info``; what it does not say is taken to be there."""
    said = {str(one).split(",")[0] for one in info.get("SecurityOptions") or ()}
    limits = {"memory_bytes": info.get("MemoryLimit"), "cpus": info.get("CpuCfsQuota")}
    return Facts(
        str(info.get("LoggingDriver") or ""),
        remaps="name=userns" in said,
        rootless="name=rootless" in said,
        lacks=frozenset(name for name, found in limits.items() if found is False),
    )


def of_podman(info: Mapping[str, Any]) -> Facts:
    """Those of Podman's own ``info``."""
    host = info.get("host") or {}
    rootless = bool((host.get("security") or {}).get("rootless"))
    controllers = host.get("cgroupControllers") or ()
    known = bool(controllers) or (rootless and "cgroupControllers" in host)
    needed = {"memory_bytes": "memory", "cpus": "cpu"}
    lacks = frozenset(name for name, one in needed.items() if known and one not in controllers)
    return Facts(str(host.get("logDriver") or ""), rootless=rootless, lacks=lacks)


def check_facts(spec: DesiredService, facts: Facts) -> None:
    """Raise ``IncompatibleError`` where the engine would run the service without what ``spec`` asks for."""
    where = f"service {spec.name}"
    if spec.secrets and facts.remaps:
        raise IncompatibleError(
            "its secrets could not be read: the container engine gives it another user (userns-remap)", where=where,
            hint="take userns-remap out of the engine's daemon.json, leave secrets out, or use --runtime crun",
        )  # fmt: skip
    if spec.secrets and facts.rootless and os.geteuid() == 0:
        raise IncompatibleError(
            "its secrets could not be read: the container engine is rootless, and the agent is root", where=where,
            hint="run the agent as the engine's user, give it root's engine by DOCKER_HOST, or use --runtime crun",
        )  # fmt: skip
    asked = {"memory_bytes": spec.memory_bytes, "cpus": spec.cpus}
    dropped = [name for name, value in asked.items() if value is not None and name in facts.lacks]
    if dropped:
        way = "let systemd delegate the controllers to its user" if facts.rootless else "enable them in the kernel"
        raise IncompatibleError(
            f"its {' and '.join(dropped)} would not be kept: the container engine has no control groups for them",
            where=where, hint=f"{way}, or leave them out of the desired state",
        )  # fmt: skip
