"""A workload as a deployment manifest of Azure IoT Edge, or as a layer over the one that devices have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.errors import UsageError
from edgepack.oci.reference import Reference
from packager.exports.exported import Exported
from packager.exports.podman import health_command
from packager.exports.pods import temporary_bytes
from packager.exports.workload import Workload

# The one that all supported runtimes read; 1.2 of the hub had a preview that later ones dropped.
VERSION = "1.1"
# An agent reads createOptions, createOptions01 and so on, each of at most so many characters.
_CHUNK, _MOST_CHUNKS = 512, 100
_RUNTIME = "1.5"
MODULE = re.compile(r"[a-zA-Z0-9_-]+")
FILE = "deployment.json"


@dataclass(frozen=True)
class Edge:
    """``sensor`` is the module whose outputs are scored, ``to_cloud`` sends the answers on.

    ``ttl_seconds`` is how long messages are kept without a connection; ``layered`` writes what is added alone, and
    ``logged_in`` asks for a place of the registry's login. The ``module`` is called as the service, where no other name
    is given.
    """

    sensor: str | None = None
    to_cloud: bool = False
    ttl_seconds: int = 7200
    layered: bool = False
    logged_in: bool = True
    module: str | None = None

    def __post_init__(self) -> None:
        for name in (self.sensor, self.module):
            if name is not None and not MODULE.fullmatch(name):
                raise UsageError(f"{name!r} is not a name of a module", hint="use letters, digits, '_' and '-'")


def export_iot_edge(workload: Workload, edge: Edge) -> Exported:
    """``deployment.json``, for ``az iot edge deployment create``."""
    document = layered(workload, edge) if edge.layered else whole(workload, edge)
    notes = ["HTTP works at once; for messages by amlInput the package needs an SDK of IoT Edge in its environment, and"
             " an entry script that uses it"]  # fmt: skip
    if not edge.layered and edge.logged_in:
        notes.append("fill in $CONTAINER_REGISTRY_USERNAME and $CONTAINER_REGISTRY_PASSWORD when it is deployed, never"
                     " in a file that is kept")  # fmt: skip
    if edge.layered:
        notes.append("a layer needs a base deployment on the device, with the agent, the hub and the registry's login")
    return Exported({FILE: json.dumps(document, indent=2, ensure_ascii=False) + "\n"}, tuple(notes))


def whole(workload: Workload, edge: Edge) -> dict[str, Any]:
    """The manifest with the agent and the hub."""
    settings: dict[str, Any] = {"minDockerVersion": "v1.25"}
    if edge.logged_in:
        address = Reference.parse(workload.image).registry
        settings["registryCredentials"] = {
            re.sub(r"[^a-zA-Z0-9]", "_", address): {
                "address": address,
                "username": "$CONTAINER_REGISTRY_USERNAME",
                "password": "$CONTAINER_REGISTRY_PASSWORD",
            }
        }
    agent = {
        "schemaVersion": VERSION,
        "runtime": {"type": "docker", "settings": settings},
        "systemModules": {
            "edgeAgent": {"type": "docker", "settings": {**_system("agent"), "createOptions": "{}"}},
            "edgeHub": {
                "type": "docker", "status": "running", "restartPolicy": "always",
                "settings": {**_system("hub"), **create_options(_HUB)},
            },
        },
        "modules": {name_of(workload, edge): module(workload)},
    }  # fmt: skip
    hub = {
        "schemaVersion": VERSION,
        "routes": routes(workload, edge),
        "storeAndForwardConfiguration": {"timeToLiveSecs": edge.ttl_seconds},
    }
    content = {"$edgeAgent": {"properties.desired": agent}, "$edgeHub": {"properties.desired": hub}}
    return {"modulesContent": content}


def layered(workload: Workload, edge: Edge) -> dict[str, Any]:
    """Only our module and routes, added to what a device has."""
    name = name_of(workload, edge)
    content: dict[str, Any] = {"$edgeAgent": {f"properties.desired.modules.{name}": module(workload)}}
    added = {f"properties.desired.routes.{key}": route for key, route in routes(workload, edge).items()}
    if added:
        content["$edgeHub"] = added
    return {"modulesContent": content}


def name_of(workload: Workload, edge: Edge) -> str:
    """The module's name: the service's."""
    return edge.module or workload.name


def module(workload: Workload) -> dict[str, Any]:
    """Our module, held as tightly as a container can be."""
    return {
        "version": workload.version or "1",
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        "imagePullPolicy": "on-create",
        "startupOrder": 100,
        "env": {name: {"value": value} for name, value in sorted(workload.settings.items())},
        "settings": {"image": workload.image, **create_options(container_options(workload))},
    }


def container_options(workload: Workload) -> dict[str, Any]:
    """What the container is created with, in the words of Docker's API."""
    given = workload.resources
    port = f"{workload.port}/tcp"
    host: dict[str, Any] = {
        "Memory": given.most_memory,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": 512,
        "Tmpfs": {"/tmp": f"size={temporary_bytes(workload)},mode=1777"},  # noqa: S108 - inside the container
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        "PortBindings": {port: [{"HostIp": "127.0.0.1", "HostPort": str(workload.host_port or workload.port)}]},
    }
    if given.cpu_limit is not None:
        host["NanoCpus"] = round(given.cpu_limit * 1e9)
    folder = f"/etc/edgepack/{workload.name}"
    binds = [f"{folder}/{kind}:{inside}:ro" for kind, inside in workload.mounted]
    if binds:
        host["Binds"] = binds
    probe = workload.probe
    health = {
        "Test": ["CMD", *health_command(workload)],
        "Interval": probe.period_seconds * 10**9,
        "Timeout": (probe.timeout_seconds + 1) * 10**9,
        "Retries": probe.failures,
        "StartPeriod": probe.start_seconds * 10**9,
    }
    return {"ExposedPorts": {port: {}}, "Healthcheck": health, "StopTimeout": workload.end_seconds, "HostConfig": host}


def create_options(options: Mapping[str, Any]) -> dict[str, str]:
    """The options as JSON text, in pieces as the agent reads them; raises ``UsageError`` for too many."""
    text = json.dumps(options, separators=(",", ":"), sort_keys=True)
    pieces = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    if len(pieces) > _MOST_CHUNKS:
        raise UsageError("the options of the container are longer than an agent reads", where="createOptions")
    return dict(zip(_piece_names(), pieces, strict=False))


def joined_options(settings: Mapping[str, Any]) -> str:
    """The text that ``create_options`` cut, of as many pieces as follow each other."""
    found = []
    for name in _piece_names():
        if name not in settings:
            break
        found.append(str(settings[name]))
    return "".join(found)


def routes(workload: Workload, edge: Edge) -> dict[str, str]:
    """From the sensor to us by Azure's input, and from our output to the cloud."""
    name = name_of(workload, edge)
    found = {}
    if edge.sensor is not None:
        found[f"{edge.sensor}-to-{name}"] = (
            f'FROM /messages/modules/{edge.sensor}/outputs/* INTO BrokeredEndpoint("/modules/{name}/inputs/amlInput")'
        )
    if edge.to_cloud:
        found[f"{name}-to-cloud"] = f"FROM /messages/modules/{name}/outputs/amlOutput INTO $upstream"
    return found


_HUB = {
    "HostConfig": {
        "PortBindings": {port: [{"HostPort": port.partition("/")[0]}] for port in ("443/tcp", "5671/tcp", "8883/tcp")}
    }
}


def _system(name: str) -> dict[str, str]:
    return {"image": f"mcr.microsoft.com/azureiotedge-{name}:{_RUNTIME}"}


def _piece_names() -> Iterator[str]:
    yield "createOptions"
    for at in range(1, _MOST_CHUNKS):
        yield f"createOptions{at:02}"
