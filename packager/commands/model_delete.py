"""``edgepack model delete``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from edgepack.names import ModelRef
from packager.commands.model_views import model_json, model_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("delete")
@click.argument("model", metavar="NAME:VERSION")
@common
def command(model: str, workspace: Workspace, output: str) -> None:
    """Remove a model from the registry; its number is never given again.

    A model that a package or a service uses stays. Disk is given back by: edgepack workspace gc
    """
    found = workspace.delete_model(ModelRef.parse(model))
    answer(output, model_json(found), [model_row(found)])
