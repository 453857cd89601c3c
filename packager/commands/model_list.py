"""``edgepack model list``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from edgepack.names import ModelRef, check_model_name
from packager.commands.model_views import model_json, model_row
from packager.commands.options import common, labels
from packager.models.model import Framework
from packager.models.query import ModelQuery
from packager.workspaces.workspace import Workspace


@click.command("list")
@click.option("-n", "--name", help="Only the versions of this model.")
@click.option("--tag", "tags", multiple=True, metavar="K[=V]", help="Only models with this tag; may be given again.")
@click.option("--property", "properties", multiple=True, metavar="K[=V]", help="Only models with this property.")
@click.option("--framework", help="Only models of this framework.")
@click.option("--run", help="Only models that this run made.")
@click.option("--latest", is_flag=True, help="Of those, only the newest version of each name.")
@common
def command(
    name: str | None,
    tags: tuple[str, ...],
    properties: tuple[str, ...],
    framework: str | None,
    run: str | None,
    latest: bool,
    workspace: Workspace,
    output: str,
) -> None:
    """List registered models, by name and version."""
    query = ModelQuery(
        name if name is None else check_model_name(name),
        labels(tags, "--tag"),
        labels(properties, "--property"),
        None if framework is None else Framework.parse(framework),
        run,
        latest,
    )
    models = () if workspace.is_unused else workspace.models.list(query)
    if not models and name is not None:
        workspace.models.get(ModelRef(name))  # raises for a name that no model has
    if not models:
        is_all = query == ModelQuery(latest=latest)
        note(
            "no models yet; register one with: edgepack model register -n NAME -p PATH"
            if is_all
            else "no model is like that; all are shown by: edgepack model list"
        )
    shown, rows = (models, ()) if output == "json" else ((), models)
    answer(output, [model_json(model) for model in shown], [model_row(model) for model in rows])
