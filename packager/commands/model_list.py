"""``edgepack model list``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from edgepack.names import ModelRef, check_model_name
from packager.commands.model_register import model_json, model_row
from packager.commands.options import common
from packager.workspace import Workspace


@click.command("list")
@click.option("-n", "--name", help="Only the versions of this model.")
@common
def command(name: str | None, workspace: Workspace, output: str) -> None:
    """List registered models, by name and version."""
    if name is not None:
        workspace.models.get(ModelRef(check_model_name(name)))  # raises for a name that no model has
    models = () if workspace.is_unused else workspace.models.list(name)
    if not models:
        note("no models yet; register one with: edgepack model register -n NAME -p PATH")
    answer(output, [model_json(model) for model in models], [model_row(model) for model in models])
