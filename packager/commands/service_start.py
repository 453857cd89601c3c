"""``edgepack service start``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import common
from packager.commands.service_views import service_json, service_row, showing_log
from packager.workspaces.workspace import Workspace


@click.command("start")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Run a service again as it ran, such as after this machine was started; one that runs is left alone."""
    from packager.services.deploying import Services

    with showing_log():
        service, seen = Services(workspace).start(name)
    answer(output, service_json(workspace, service, seen), [service_row(workspace, service, seen)])
