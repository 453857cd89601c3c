"""``edgepack endpoint promote``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.endpoint_views import endpoint_json, endpoint_line
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("promote")
@click.argument("name")
@click.argument("version")
@common
def command(name: str, version: str, workspace: Workspace, output: str) -> None:
    """Let VERSION be the default and the control of endpoint NAME, and get all of its requests."""
    from packager.services.endpoint_deploying import Endpoints

    found = Endpoints(workspace).promote(name, version)
    answer(output, endpoint_json(workspace, found), [endpoint_line(workspace, found)])
