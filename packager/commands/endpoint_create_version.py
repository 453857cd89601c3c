"""``edgepack endpoint create-version``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.host.console import answer
from packager.bars import bars
from packager.commands.endpoint_options import version_of, version_options
from packager.commands.endpoint_views import endpoint_json, endpoint_line
from packager.commands.image_inputs import ImageInputs, image_inputs
from packager.commands.options import common
from packager.commands.service_views import showing_log
from packager.workspaces.workspace import Workspace


@click.command("create-version")
@click.argument("name")
@version_options
@click.option("--default", "is_default", is_flag=True, help="Make it the default version.")
@image_inputs
@common
def command(
    name: str,
    version: str,
    dc: Path | None,
    traffic: int,
    control: bool,
    is_default: bool,
    inputs: ImageInputs,
    workspace: Workspace,
    output: str,
) -> None:
    """Add a version to endpoint NAME: it is deployed, and gets requests when it is healthy."""
    from packager.services.endpoint_deploying import Endpoints

    made = version_of(inputs, version, dc, None, traffic, control=control, is_default=is_default)
    with showing_log(), bars() as progress:
        found = Endpoints(workspace).create_version(name, made, progress)
    answer(output, endpoint_json(workspace, found), [endpoint_line(workspace, found)])
