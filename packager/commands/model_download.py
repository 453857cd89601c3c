"""``edgepack model download``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.host.console import answer
from edgepack.names import ModelRef
from packager.commands.options import common, team_registry
from packager.workspaces.workspace import Workspace


@click.command("download")
@click.argument("model", metavar="NAME[:VERSION]")
@click.option(
    "-o",
    "--target-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default="the current folder",
    help="Folder to write its files into.",
)
@click.option("--exist-ok", is_flag=True, help="Replace files that are there already.")
@team_registry
@common
def command(model: str, target_dir: Path, exist_ok: bool, workspace: Workspace, output: str) -> None:
    """Write the files of a model again, by their own names."""
    from packager.models.download import download

    found = workspace.models.get(ModelRef.parse(model))
    path = download(workspace.store, found, target_dir, exist_ok=exist_ok)
    answer(output, {"id": found.id, "path": str(path)}, [{"model": found.id, "path": str(path)}])
