"""When a container is behind the device's router, and how long its connections last. No engine is asked."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.runtimes.engine.api import Container
from edge_agent.runtimes.haproxy.process import DRAIN_SECONDS, program
from edgepack.oci.config import ImageConfig
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import DeviceNode, Mount

# The port of loopback on which a container is behind the router; others have no such label.
ROUTED_LABEL = "io.edgepack.router"
INSTANCE_LABEL = "io.edgepack.instance"
# Our server ends when it has answered what it was asked, within this time.
LEAVE_SECONDS = 32.0
_STOP_SECONDS = 10.0
# A connection that was led to the old version just now is with its server after this time.
_SETTLE_SECONDS = 0.3
_POLL_SECONDS = 0.1
_VARIABLE, _NEVER = "EDGEPACK_ROUTER", "never"
_FIRST_OPEN_PORT = 1024
_ESTABLISHED = "01"


def why_not_routed(spec: DesiredService, config: ImageConfig, *, local: bool) -> str | None:
    """Why the service of ``spec`` cannot be behind a router, so that the engine opens its port; ``None`` if it can."""
    if not local:
        return "its container engine is on another machine"
    if os.environ.get(_VARIABLE) == _NEVER:
        return f"{_VARIABLE} says that no service is to be behind a router"
    if program() is None:
        return "haproxy is not installed, which would lead requests from one version to the next"
    if spec.port < _FIRST_OPEN_PORT and os.geteuid() != 0:
        return f"a router of this user may not have port {spec.port}"
    if spec.network == "device" and not is_ours((*config.entrypoint, *config.cmd)):
        return "its image's server opens a port of the device by itself"
    return None


def is_ours(words: tuple[str, ...]) -> bool:
    """Whether a command starts our server, which takes its port from its environment and ends as it should."""
    return "edge_server" in words


def routed_port(container: Container) -> int | None:
    """The port of loopback on which a container is behind the router, if it is."""
    text = container.labels.get(ROUTED_LABEL) or ""
    return int(text) if text.isdecimal() else None


def instances_of(service: str) -> tuple[str, str]:
    """The names under which what containers of the service are given of the device is kept: two may run."""
    return service, f"{service}.2"


def instance_of(service: str, container: Container) -> str:
    """The one of them that is the container's."""
    return container.labels.get(INSTANCE_LABEL) or service


def other_instance(service: str, container: Container | None) -> str:
    """The one of them for a container that is started beside ``container``."""
    first, second = instances_of(service)
    return second if container is not None and instance_of(service, container) == first else first


def let_finish(container: Container) -> float:
    """Wait until a container to which nobody is led any more may be asked to end; how long that may take.

    Of a server that is not ours nothing is known, so that its connections are waited for.
    """
    time.sleep(_SETTLE_SECONDS)
    config = container.attrs.get("Config") or {}
    if is_ours((*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))):
        return LEAVE_SECONDS
    port, end = routed_port(container), time.monotonic() + DRAIN_SECONDS
    while port is not None and connections_to(port) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return _STOP_SECONDS


def connections_to(port: int, table: Path = Path("/proc/net/tcp")) -> int:
    """How many connections there are from here to ``port`` of 127.0.0.1 (proc(5))."""
    try:
        rows = [line.split() for line in table.read_text("ascii").splitlines()[1:]]
    except OSError:
        return 0
    remote = f"0100007F:{port:04X}"
    return sum(row[2] == remote and row[3] == _ESTABLISHED for row in rows)


def holds(service: str, image: Digest, container: Container) -> DesiredService:
    """What a container has of the device that another one of the service might not share, as values of a service."""
    host: Mapping[str, Any] = container.attrs.get("HostConfig") or {}
    mounts = tuple(
        Mount(str(one["Source"]), str(one["Target"]), read_only=False)
        for one in host.get("Mounts") or ()
        if one.get("Type") == "bind" and not one.get("ReadOnly")
    )
    nodes = tuple(DeviceNode(str(one["PathOnHost"])) for one in host.get("Devices") or ())
    return DesiredService(service, image, 1, mounts=mounts, devices=nodes)
