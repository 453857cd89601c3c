"""Connects to a container engine: the addresses where one may listen, and the first that answers."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.runtimes.engine.errors import message
from edgepack.errors import MissingPartError

_PING_SECONDS = 3
_CALL_SECONDS = 300


def sockets(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The addresses where an engine may listen, best first."""
    if environment.get("DOCKER_HOST"):
        return (environment["DOCKER_HOST"],)
    own = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    paths = [Path("/run/docker.sock"), Path("/run/podman/podman.sock")]
    paths += [own / "docker.sock", own / "podman/podman.sock"]
    return tuple(f"unix://{path}" for path in paths if _is_socket(path))


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
            client = docker.from_env(environment={**os.environ, "DOCKER_HOST": one}, timeout=_PING_SECONDS)
            client.ping()
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            reasons.append(f"{one}: {message(error)}")
            continue
        client.api.timeout = _CALL_SECONDS
        return client
    raise MissingPartError(
        f"no container engine answers ({'; '.join(reasons) or 'no socket of one is there'})",
        hint="start Docker or Podman's socket, set DOCKER_HOST, or use --runtime crun or process",
    )
