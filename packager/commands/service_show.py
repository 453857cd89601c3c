"""``edgepack service show``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import common
from packager.commands.service_views import service_json, service_row
from packager.workspaces.workspace import Workspace


@click.command("show")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Show a service: its state and why, what it serves, and where it answers."""
    from packager.services.deploying import Services

    service, seen = Services(workspace).observe(name)
    answer(output, service_json(workspace, service, seen), [service_row(workspace, service, seen)])
