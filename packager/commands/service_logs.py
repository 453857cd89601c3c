"""``edgepack service logs``"""

from __future__ import annotations

import click

from edgepack.host.commands import Number
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what the service writes, until Ctrl-C.")
@click.option("-n", "--lines", type=Number(0, kind=int), default=5000, show_default=True, help="How many of the last.")
@common
def command(name: str, follow: bool, lines: int, workspace: Workspace, output: str) -> None:
    """Show what a service wrote."""
    from packager.services.deploying import Services

    service, target = Services(workspace).target(name)
    if not follow:
        click.echo(target.logs(service, lines), nl=False)
        return
    for line in target.follow(service, lines):
        click.echo(line)
