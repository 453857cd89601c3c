"""``edgepack workspace init``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.console import answer
from packager.commands.options import creating
from packager.commands.workspace_show import workspace_json, workspace_rows
from packager.workspaces.config import Team, WorkspaceConfig
from packager.workspaces.workspace import Workspace


@click.command("init")
@click.option("--name", help="What the workspace is called.")
@click.option("--database", metavar="URL", help="A team's database: postgresql://USER@HOST:PORT/DATABASE")
@click.option("--registry", metavar="HOST[:PORT]/PATH", help="A team's image registry, for the files of its models.")
@click.option("--plain-http", is_flag=True, help="That registry has no TLS.")
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Authorities to trust for it, as PEM."
)
@creating
def command(
    name: str | None,
    database: str | None,
    registry: str | None,
    plain_http: bool,
    ca: Path | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Make a workspace, for one person, or for a team that shares a database and an image registry.

    The password of the database is not written anywhere: it is read from ~/.pgpass or PGPASSWORD, as psql does; that of
    the registry comes from docker login or podman login.
    """
    config = WorkspaceConfig(name, team_of(database, registry, plain_http=plain_http, ca=ca)).check()
    before = workspace.config if workspace.exists else None
    if before is not None and before.team != config.team and workspace.holds_records():
        hint = "move it there: edgepack workspace migrate --database URL --registry REF"
        if config.team is None:
            hint = "it is a team's; move it to this folder with: edgepack workspace migrate --local"
        raise UsageError("has models or environments already", where=workspace.root, hint=hint)
    workspace.configure(config)
    answer(output, workspace_json(workspace), workspace_rows(workspace))


def team_of(database: str | None, registry: str | None, *, plain_http: bool, ca: Path | None) -> Team | None:
    """The team by its options; raises ``UsageError`` where one of the two addresses is missing."""
    if database is None and registry is None:
        if plain_http or ca is not None:
            raise UsageError("says how a registry is reached, and none is given", hint="give --registry too")
        return None
    if database is None or registry is None:
        missing = "--registry" if registry is None else "--database"
        raise UsageError("a team's workspace needs a database and a registry", hint=f"give {missing} too")
    return Team(database, registry.rstrip("/"), plain_http, None if ca is None else str(ca.absolute()))
