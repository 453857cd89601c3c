"""``edgepack key create``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import creating
from packager.workspaces.workspace import Workspace


@click.command("create")
@click.option("-n", "--name", required=True, help="Name of the key.")
@creating
def command(name: str, workspace: Workspace, output: str) -> None:
    """Create an Ed25519 signing key, readable by its owner alone; devices trust its public half."""
    key = workspace.keys.create(name)
    value = {"name": name, "key_id": key.id, "public": str(workspace.keys.public_path(name))}
    answer(output, value, [value])
