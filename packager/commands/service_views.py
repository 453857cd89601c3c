"""A service as commands show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from edgepack.errors import NotFoundError, RuntimeFailedError
from packager.services.crashes import CrashedError
from packager.services.service import Service
from packager.services.states import spelled
from packager.services.targets.base import Observation
from packager.services.targets.table import target_of
from packager.workspaces.workspace import Workspace


def addresses(workspace: Workspace, service: Service) -> dict[str, str | None]:
    """Where the service answers, by Azure's names; ``None`` where that is not known."""
    try:
        address = target_of(workspace, service).address(service)
    except NotFoundError:  # its device is not known any more
        address = None
    paths = {"scoring_uri": "/score", "swagger_uri": "/swagger.json"}
    return {name: None if address is None else address + path for name, path in paths.items()}


def service_json(workspace: Workspace, service: Service, seen: Observation) -> dict[str, Any]:
    """The service as the JSON interface shows it."""
    return (
        service.to_json()
        | {"state": spelled(seen.state, service.compute_type), "reason": seen.reason or service.error}
        | addresses(workspace, service)
    )


def service_row(workspace: Workspace, service: Service, seen: Observation) -> dict[str, object]:
    """The service as a row of a table."""
    row: dict[str, object] = {
        "name": service.name, "state": spelled(seen.state, service.compute_type),
        "models": " ".join(service.models) or None, "url": addresses(workspace, service)["scoring_uri"],
    }  # fmt: skip
    reason = seen.reason or service.error
    return row if reason is None else row | {"reason": reason}


@contextmanager
def showing_log() -> Iterator[None]:
    """Show what a service wrote that has crashed, line by line, before the sentence that says so."""
    try:
        yield
    except CrashedError as error:
        click.echo(error.log, err=True)
        raise RuntimeFailedError(error.what, where=error.where, hint=error.hint) from error
