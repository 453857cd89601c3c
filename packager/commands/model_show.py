"""``edgepack model show``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from edgepack.names import ModelRef
from packager.commands.model_views import model_json, model_rows
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("show")
@click.argument("model", metavar="NAME[:VERSION]")
@common
def command(model: str, workspace: Workspace, output: str) -> None:
    """Show all that is known of a model, its latest version without one."""
    found = workspace.models.get(ModelRef.parse(model))
    answer(output, model_json(found), model_rows(found))
