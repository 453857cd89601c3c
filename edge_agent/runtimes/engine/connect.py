"""Connects to a container engine: the addresses where one may listen, and the first that answers."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from edge_agent.runtimes.engine.api import Engine
from edge_agent.runtimes.engine.errors import CallError
from edge_agent.runtimes.engine.transport import Transport
from edgepack.errors import MissingPartError

_PING_SECONDS = 3.0


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


def connect(address: str | None = None) -> Engine:
    """The first engine that answers, at ``address`` or where engines usually listen.

    Raises ``MissingPartError`` when none answers.
    """
    tried = (address,) if address is not None else sockets()
    reasons = []
    for one in tried:
        try:
            return _engine(one)
        except CallError as error:
            reasons.append(f"{one}: {error.what}")
    raise MissingPartError(
        f"no container engine answers ({'; '.join(reasons) or 'no socket of one is there'})",
        hint="start Docker or Podman's socket, set DOCKER_HOST, or use --runtime crun or process",
    )


def _engine(address: str) -> Engine:
    """The engine at ``address``, which says with its answer to a ping what it is.

    It is asked for nothing else: to say its version Podman runs the system's package manager, which takes seconds.
    """
    transport = Transport(address, os.environ)
    with transport.answer("GET", "/_ping", timeout=_PING_SECONDS) as pong:
        if pong.status != 200 or "Api-Version" not in pong.headers:
            raise CallError(f"{pong.status} {pong.reason}, which is not the answer of a container engine", pong.status)
        version, podman = pong.headers["Api-Version"], "Libpod-Api-Version" in pong.headers
    return Engine(transport, version, podman=podman)
