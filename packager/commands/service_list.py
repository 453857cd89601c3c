"""``edgepack service list``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import common
from packager.commands.service_views import service_json, service_row
from packager.workspaces.workspace import Workspace


@click.command("list")
@common
def command(workspace: Workspace, output: str) -> None:
    """List the services, and how each of them is."""
    from packager.services.deploying import Services

    found = Services(workspace).observe_all()
    value = [service_json(workspace, one, seen) for one, seen in found]
    answer(output, value, [service_row(workspace, one, seen) for one, seen in found])
