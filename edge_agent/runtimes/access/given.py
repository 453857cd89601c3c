"""Everything that a service is given of its device, as one value for its runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.runtimes.access.devices import Node, device_nodes, groups_for
from edge_agent.runtimes.access.mounts import Bind, Content, check_mounts
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import SECRETS_FOLDER
from edgepack.state.service_auth import AUTH_FOLDER

# Tells a service where its secrets are, by whichever runtime it runs.
SECRETS_VARIABLE = "EDGEPACK_SECRETS"


@dataclass(frozen=True)
class Access:
    """Mounts, device nodes, the groups that open them, and the folders with the secrets' copies and with ``auth``."""

    binds: tuple[Bind, ...] = ()
    nodes: tuple[Node, ...] = ()
    groups: tuple[int, ...] = ()
    secrets: Path | None = None
    auth: Path | None = None

    @property
    def mounts(self) -> tuple[Bind, ...]:
        """All that is mounted: the secrets, and what callers show, too."""
        own = ((self.secrets, SECRETS_FOLDER), (self.auth, AUTH_FOLDER))
        return (*self.binds, *(Bind(path, at, read_only=True) for path, at in own if path is not None))


NOTHING = Access()


def needs_access(spec: DesiredService) -> bool:
    """Whether ``spec`` wants anything of the device."""
    return bool(spec.mounts or spec.devices or spec.secrets or spec.auth)


def auth_env(spec: DesiredService, folder: str = AUTH_FOLDER) -> dict[str, str]:
    """How a server is told what its callers show, and in which file of ``folder`` it finds that."""
    if spec.auth is None:
        return {}
    return {"EDGEPACK_AUTH_MODE": spec.auth.mode, "EDGEPACK_AUTH_FILE": f"{folder}/{spec.auth.file}"}


def find_access(spec: DesiredService, state: Path, content: Content, user: tuple[int, int]) -> Access:
    """What ``spec`` is given, without its secrets; raises ``RuntimeFailedError`` for what it cannot have.

    ``state`` is the agent's folder, ``content`` tells what the image has, ``user`` is the service's uid and gid.
    """
    nodes = device_nodes(spec)
    return Access(check_mounts(spec, state, content), nodes, groups_for(spec, nodes, user))
