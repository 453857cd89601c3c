"""``edgepack endpoint create``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgepack.host.console import answer
from packager.bars import bars
from packager.commands.endpoint_options import settings_of, settings_options, version_of, version_options
from packager.commands.endpoint_views import endpoint_json, endpoint_line
from packager.commands.image_inputs import ImageInputs, image_inputs
from packager.commands.options import creating
from packager.commands.service_views import showing_log
from packager.workspaces.workspace import Workspace


@click.command("create")
@click.argument("name")
@version_options
@image_inputs
@click.option("--target", metavar="NAME", help="The device, for a configuration of one.  [default: the only one]")
@settings_options
@creating
def command(
    name: str,
    version: str,
    dc: Path | None,
    traffic: int,
    control: bool,
    target: str | None,
    inputs: ImageInputs,
    workspace: Workspace,
    output: str,
    **given: Any,
) -> None:
    """Open endpoint NAME with its first version, which is the default one, and wait until it answers."""
    from packager.services.endpoint_deploying import Endpoints

    settings = settings_of(given)
    first = version_of(inputs, version, dc, target, traffic, control=control)
    with showing_log(), bars() as progress:
        found = Endpoints(workspace).create(name, first, settings, progress)
    answer(output, endpoint_json(workspace, found), [endpoint_line(workspace, found)])
