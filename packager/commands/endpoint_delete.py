"""``edgepack endpoint delete``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("delete")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Close endpoint NAME and delete its versions; models and packages stay."""
    from packager.services.endpoint_deploying import Endpoints

    found = Endpoints(workspace).delete(name)
    answer(output, found.to_json(), [{"name": found.name, "versions": " ".join(found.weights)}])
