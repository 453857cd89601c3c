"""``edgepack base list``"""

from __future__ import annotations

from typing import Any

import click

from edgepack.host.console import answer, human
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("list")
@common
def command(workspace: Workspace, output: str) -> None:
    """List the recipes of base images, and which of them are built in the cache."""
    from edgepack.oci.descriptor import Platform
    from packager.bases.debian import load_recipe, recipes

    rows: list[dict[str, Any]] = []
    for name in recipes():
        recipe = load_recipe(name)
        for platform in recipe.platforms:
            found = workspace.bases.built(recipe, Platform.parse(platform))
            size = None if found is None else workspace.bases.store.manifest(found).layers[0].size
            rows.append({"recipe": name, "platform": platform, "built": found is not None,
                         "size": size, "digest": found and found.digest})  # fmt: skip
    value = [{**row, "digest": row["digest"] and str(row["digest"])} for row in rows]
    rows = [{**row, "digest": row["digest"] and row["digest"].short} for row in rows]
    answer(output, value, [{**row, "size": None if row["size"] is None else human(row["size"])} for row in rows])
