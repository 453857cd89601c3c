"""Which service is behind the device's router, and where it leads; HAProxy's configuration for that. Pure.

Connections are led on as they are (TCP): TLS, keys and everything of HTTP stay the service's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from edge_agent.runtimes.haproxy.control import SOCKET
from edge_agent.runtimes.haproxy.process import EMPTY

LOOPBACK = "127.0.0.1"
SERVER = "service"
# Where a service is led whose version is exchanged: nobody listens there, and who comes is kept waiting.
_NOWHERE = 1
# How often, once a second, a connection is tried again that nobody takes: a service that is started anew is waited for.
_RETRIES = 20


@dataclass(frozen=True)
class Route:
    """The port of a service, and the port of loopback on which its container ``container`` is behind the router.

    While it is ``parked`` nobody is led to the container; who comes meanwhile waits.
    """

    service: str
    address: str
    port: int
    server: int
    container: str
    parked: bool = False

    @property
    def bind(self) -> str:
        """The address and port of the service, as HAProxy writes them."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    @property
    def leads_to(self) -> int:
        """The port to which who comes is led."""
        return _NOWHERE if self.parked else self.server


def structure(routes: Iterable[Route]) -> str:
    """All that cannot be changed while HAProxy runs."""
    return json.dumps({one.service: one.bind for one in sorted(routes, key=lambda one: one.service)})


def binds(written: str) -> Mapping[str, str]:
    """The services of a ``structure``, with their addresses and ports."""
    try:
        found = json.loads(written)
    except ValueError:
        return {}
    return {str(name): str(bind) for name, bind in found.items()} if isinstance(found, dict) else {}


def configuration(routes: Iterable[Route], user: int | None) -> str:
    """The file that HAProxy reads at its start; it becomes ``user``, if there is one."""
    become = [] if user is None else [f"uid {user}", f"gid {user}", f"chroot {EMPTY}"]
    found = {
        "global": [
            f"stats socket unix@{SOCKET} mode 600 level admin expose-fd listeners", "stats timeout 1m", "nbthread 1",
            "maxconn 2000", "no strict-limits",
            # For how long one that has handed its ports to another keeps connections that it has.
            "hard-stop-after 10m", *become,
        ],
        "defaults": [
            # Where the service is now is looked up again with each try.
            "mode tcp", "maxconn 2000", f"retries {_RETRIES}", "option redispatch 1", "timeout connect 2s",
            "timeout client 1h", "timeout server 1h",
        ],
        **{
            f"listen {one.service}": [f"bind {one.bind}", f"server {SERVER} {LOOPBACK}:{one.leads_to}"]
            for one in sorted(routes, key=lambda one: one.service)
        },
    }  # fmt: skip
    return "\n".join(line for part, words in found.items() for line in (part, *(f"  {word}" for word in words), ""))


def write_routes(routes: Iterable[Route]) -> bytes:
    """The file in which they are kept."""
    return json.dumps([asdict(one) for one in routes], indent=1).encode()


def read_routes(data: bytes) -> dict[str, Route]:
    """What the file says; raises ``ValueError`` for one that is damaged."""
    try:
        found = [Route(**one) for one in json.loads(data)]
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from error
    return {one.service: one for one in found}
