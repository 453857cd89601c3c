"""Connects to a container engine: the addresses where one may listen, and the first that answers."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.runtimes.engine.errors import message
from edgepack.errors import MissingPartError

_PING_SECONDS = 3
_CALL_SECONDS = 300
# The version of the interface is said by the answer to a ping, which has none itself.
_ANY_VERSION = "1.41"
_PODMAN = "Libpod-Api-Version"


def sockets(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The addresses where an engine may listen, best first."""
    if environment.get("DOCKER_HOST"):
        return (environment["DOCKER_HOST"],)
    own = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    paths = [Path("/run/docker.sock"), Path("/run/podman/podman.sock")]
    paths += [own / "docker.sock", own / "podman/podman.sock"]
    return tuple(f"unix://{path}" for path in paths if _is_socket(path))


def is_podman(client: Any) -> bool:
    """Whether the engine is Podman, by what it says of itself with each answer to a ping."""
    return _PODMAN in _pinged(client)


def _client(address: str) -> Any:
    """A client of the engine at ``address`` by the engine's own version of the interface; raises what the SDK raises.

    The version is not asked for: Podman runs the system's package manager to answer that, which takes seconds.
    """
    import docker

    environment = {**os.environ, "DOCKER_HOST": address}
    asking = docker.from_env(version=_ANY_VERSION, environment=environment, timeout=_PING_SECONDS)
    with contextlib.closing(asking):
        version = _pinged(asking).get("Api-Version") or _ANY_VERSION
    return docker.from_env(version=version, environment=environment, timeout=_PING_SECONDS)


def _pinged(client: Any) -> Mapping[str, str]:
    answer = client.api.get(f"{client.api.base_url}/_ping")
    answer.raise_for_status()
    found: Mapping[str, str] = answer.headers
    return found


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:  # absent, or in a folder that only another user may enter
        return False


def connect(address: str | None = None) -> Any:
    """A client of the first engine that answers, at ``address`` or where engines usually listen.

    Raises ``MissingPartError`` when none answers or the SDK is not installed.
    """
    try:
        import docker
        import requests
    except ImportError as error:
        raise MissingPartError(
            "the docker package is not installed", hint="install edgepack[agent], or use another --runtime"
        ) from error
    tried = (address,) if address is not None else sockets()
    reasons = []
    for one in tried:
        try:
            client = _client(one)
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            reasons.append(f"{one}: {message(error)}")
            continue
        client.api.timeout = _CALL_SECONDS
        return client
    raise MissingPartError(
        f"no container engine answers ({'; '.join(reasons) or 'no socket of one is there'})",
        hint="start Docker or Podman's socket, set DOCKER_HOST, or use --runtime crun or process",
    )
