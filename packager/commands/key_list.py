"""``edgepack key list``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("list")
@common
def command(workspace: Workspace, output: str) -> None:
    """List the signing keys of the workspace."""
    keys = {} if workspace.is_unused else workspace.keys.list()
    rows = [{"name": name, "key_id": key.id} for name, key in sorted(keys.items())]
    if not rows:
        note("no keys yet; create one with: edgepack key create -n NAME")
    answer(output, rows, rows)
