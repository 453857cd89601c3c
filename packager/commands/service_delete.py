"""``edgepack service delete``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("delete")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Stop a service and forget it; its models and its package stay."""
    from packager.services.deploying import Services
    from packager.services.endpoints.store import EndpointStore

    EndpointStore(workspace.root).check_free(name)
    service = Services(workspace).delete(name)
    answer(output, service.to_json(), [{"name": service.name, "package": service.package}])
