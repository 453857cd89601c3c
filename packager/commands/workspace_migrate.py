"""``edgepack workspace migrate``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.console import answer
from packager.commands.options import common, team_registry
from packager.commands.workspace_init import team_of
from packager.workspaces.workspace import Workspace


@click.command("migrate")
@click.option("--database", metavar="URL", help="The team's database: postgresql://USER@HOST:PORT/DATABASE")
@click.option("--registry", metavar="HOST[:PORT]/PATH", help="The team's image registry.")
@click.option("--plain-http", is_flag=True, help="That registry has no TLS.")
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Authorities to trust for it, as PEM."
)
@click.option("--local", is_flag=True, help="Move a team's workspace into this folder instead.")
@team_registry
@common
def command(
    database: str | None,
    registry: str | None,
    plain_http: bool,
    ca: Path | None,
    local: bool,
    workspace: Workspace,
    output: str,
) -> None:
    """Move a workspace to a team's database and registry, or back, with all names and versions.

    Killed or failed, it is run again and goes on; the workspace changes only when everything is there. Nothing is
    removed from where it was.
    """
    from packager.workspaces.migrate import migrate

    team = team_of(database, registry, plain_http=plain_http, ca=ca)
    if (team is None) != local:
        raise UsageError("say where to", hint="give --database and --registry, or --local")
    done = migrate(workspace, team)
    where = workspace.root if team is None else team.registry
    row = {"to": str(where), "moved": done.moved, "present": done.present}
    answer(output, row, [row])
