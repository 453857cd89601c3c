"""``edgepack environment delete``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from edgepack.names import EnvironmentRef
from packager.commands.environment_views import environment_json, environment_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("delete")
@click.argument("environment", metavar="NAME:VERSION")
@common
def command(environment: str, workspace: Workspace, output: str) -> None:
    """Remove one version of an environment; its number is never given again."""
    found = workspace.environments.delete(EnvironmentRef.parse(environment))
    answer(output, environment_json(found), [environment_row(found)])
