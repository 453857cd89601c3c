"""``edgepack endpoint delete-version``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.endpoint_views import endpoint_json, endpoint_line
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("delete-version")
@click.argument("name")
@click.argument("version")
@common
def command(name: str, version: str, workspace: Workspace, output: str) -> None:
    """Delete a version of endpoint NAME that gets no requests."""
    from packager.services.endpoint_deploying import Endpoints

    found = Endpoints(workspace).delete_version(name, version)
    answer(output, endpoint_json(workspace, found), [endpoint_line(workspace, found)])
