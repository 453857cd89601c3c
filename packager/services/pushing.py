"""The registry from which targets elsewhere pull the images of services."""

from __future__ import annotations

import os
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.oci.reference import Reference
from edgepack.signing.keys import PrivateKey
from packager.registries.access import Access
from packager.services.service import Service
from packager.workspaces.workspace import Workspace

# Where images of services are pushed to, such as registry.example/edge; and as the commands that push read them.
REGISTRY = "EDGEPACK_SERVICE_REGISTRY"
_PLAIN_HTTP, _CA = "EDGEPACK_PLAIN_HTTP", "EDGEPACK_CA"


def repository_of(workspace: Workspace, service: Service) -> str:
    """The repository of the images of ``service``; raises ``UsageError`` where no registry is known."""
    team = workspace.config.team
    if given := os.environ.get(REGISTRY):
        return Reference.parse(f"{given.rstrip('/')}/{service.name}").name
    if team is not None:
        return team.repository(f"services/{service.name}").name
    raise UsageError(
        f"no registry is known that {service.target or 'its target'} could pull its image from",
        where=f"service {service.name}", hint=f"set {REGISTRY} to one, such as registry.example/edge",
    )  # fmt: skip


def push(workspace: Workspace, service: Service, key: PrivateKey | None = None) -> None:
    """Have the image of ``service`` in its repository, signed by ``key`` where one is given."""
    from edgepack.signing.statement import ensure_signed
    from packager.places.table import find_destination

    image = workspace.image(service.package)
    if key is not None:
        ensure_signed(workspace.store, image, service.package, key)
    tag = service.package.rpartition(":")[2]
    place = find_destination(f"{repository_of(workspace, service)}:{tag}", _access(workspace))
    place.send(workspace.store, service.package, image)


def _access(workspace: Workspace) -> Access:
    team = workspace.config.team
    if team is not None and not os.environ.get(REGISTRY):
        return team.access(workspace.logins)
    ca = os.environ.get(_CA)
    plain = tuple(os.environ.get(_PLAIN_HTTP, "").split())
    return Access.of(plain, None if ca is None else Path(ca), workspace.logins)
