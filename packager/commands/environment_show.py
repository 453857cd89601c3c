"""``edgepack environment show``"""

from __future__ import annotations

import json

import click

from edgepack.host.commands import Choice
from edgepack.host.console import answer
from edgepack.names import EnvironmentRef
from packager.commands.environment_views import environment_json, environment_rows
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("show")
@click.argument("environment", metavar="NAME[:VERSION]")
@click.option(
    "--format", "form", type=Choice(["conda", "requirements", "json"]),
    help="Print it as the file that it can be created from again.",
)  # fmt: skip
@common
def command(environment: str, form: str | None, workspace: Workspace, output: str) -> None:
    """Show an environment, its latest version without one."""
    from packager.environments.conda import conda_text
    from packager.environments.curated import curated
    from packager.environments.document import to_json
    from packager.environments.requirements_text import requirements_text

    ref = EnvironmentRef.parse(environment)
    found = curated(ref) or workspace.environments.get(ref)
    if form == "conda":
        click.echo(conda_text(found), nl=False)
    elif form == "requirements":
        click.echo(requirements_text(found), nl=False)
    elif form == "json":
        click.echo(json.dumps(to_json(found), indent=2, ensure_ascii=False))
    else:
        answer(output, environment_json(found), environment_rows(found))
