"""``edgepack workspace gc``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, human
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@common
def command(dry_run: bool, workspace: Workspace, output: str) -> None:
    """Give back the disk that deleted models and packages, and interrupted commands, take up.

    Other commands may go on meanwhile. What no model and no tag needs is removed.
    """
    from packager.workspaces.collect import collect

    done = collect(workspace, dry_run=dry_run)
    parts = {"blobs": done.blobs, "unfinished": done.unfinished}
    found: dict[str, object] = {name: {"files": part.files, "size": part.size} for name, part in parts.items()}
    found["dry_run"] = dry_run
    verb = "would free" if dry_run else "freed"
    rows = [{"what": name, "files": part.files, verb: human(part.size)} for name, part in parts.items()]
    answer(output, found, rows)
