"""``edgepack service reload``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import common
from packager.commands.service_views import service_json, service_row, showing_log
from packager.workspaces.workspace import Workspace


@click.command("reload")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Let a service of this machine run its entry script as it is now, at once: no image is built.

    A script that does not start leaves what ran. What the image itself has is changed by edgepack service update.
    """
    from packager.services.deploying import Services

    with showing_log():
        service, seen = Services(workspace).reload(name)
    answer(output, service_json(workspace, service, seen), [service_row(workspace, service, seen)])
