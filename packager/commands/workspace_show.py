"""``edgepack workspace show``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, human
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("show")
@common
def command(workspace: Workspace, output: str) -> None:
    """Show where a workspace is, where a team keeps it, and what it holds."""
    answer(output, workspace_json(workspace), workspace_rows(workspace))


def workspace_json(workspace: Workspace) -> dict[str, object]:
    """A workspace as the JSON interface shows it."""
    team = workspace.config.team
    held = workspace.held()
    return {
        "folder": str(workspace.root),
        "name": workspace.config.name,
        "database": workspace.database.where,
        "registry": None if team is None else team.registry,
        "models": held.models,
        "environments": held.environments,
        "images": held.images,
        "store": {"blobs": held.blobs, "size": held.size},
    }


def workspace_rows(workspace: Workspace) -> list[dict[str, object]]:
    """A workspace as a table."""
    fields = workspace_json(workspace)
    held = workspace.held()
    fields["store"] = f"{held.blobs} blobs, {human(held.size)}"
    return [{"field": key, "value": value} for key, value in fields.items() if value is not None]
