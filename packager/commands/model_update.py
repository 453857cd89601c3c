"""``edgepack model update``"""

from __future__ import annotations

import click

from edgepack.errors import UsageError
from edgepack.host.console import answer
from edgepack.names import ModelRef
from packager.commands.model_views import model_json, model_rows
from packager.commands.options import common, pairs
from packager.workspaces.workspace import Workspace


@click.command("update")
@click.argument("model", metavar="NAME[:VERSION]")
@click.option("--tag", "--add-tag", "tags", multiple=True, metavar="K=V", help="Set a tag; may be given many times.")
@click.option("--remove-tag", "removed", multiple=True, metavar="K", help="Remove a tag.")
@click.option("--property", "--add-property", "properties", multiple=True, metavar="K=V", help="Add a property.")
@click.option("-d", "--description", help="What the model is for.")
@common
def command(
    model: str,
    tags: tuple[str, ...],
    removed: tuple[str, ...],
    properties: tuple[str, ...],
    description: str | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Change the tags and the description of a model, or add properties, which never change."""
    if not (tags or removed or properties or description is not None):
        raise UsageError("nothing to change", hint="give --tag, --remove-tag, --property or --description")
    found = workspace.models.update(
        ModelRef.parse(model),
        add_tags=pairs(tags, "--tag"),
        remove_tags=removed,
        add_properties=pairs(properties, "--property"),
        description=description,
    )
    answer(output, model_json(found), model_rows(found))
