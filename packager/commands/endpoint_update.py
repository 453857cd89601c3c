"""``edgepack endpoint update``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT
from edgepack.host.console import answer
from packager.bars import bars
from packager.commands.endpoint_options import settings_of, settings_options
from packager.commands.endpoint_views import endpoint_json, endpoint_line
from packager.commands.image_inputs import ImageInputs, image_inputs
from packager.commands.options import common
from packager.commands.service_views import showing_log
from packager.workspaces.workspace import Workspace


@click.command("update")
@click.argument("name")
@click.option("--version", metavar="NAME", help="The version that gets other models, another script or --dc.")
@image_inputs
@click.option("--dc", type=INPUT, metavar="FILE", help="A deployment configuration of that version.")
@click.option("--default", metavar="VERSION", help="The version that gets what the others leave.")
@click.option("--control", metavar="VERSION", help="The version that the others are compared with.")
@settings_options
@common
def command(
    name: str,
    version: str | None,
    dc: Path | None,
    default: str | None,
    control: str | None,
    inputs: ImageInputs,
    workspace: Workspace,
    output: str,
    **given: Any,
) -> None:
    """Change endpoint NAME, or what one of its versions runs; the version answers as before until it is healthy."""
    from packager.services.configuration.read import read_deployment
    from packager.services.endpoint_deploying import Endpoints
    from packager.services.plan import Change

    settings, endpoints = settings_of(given), Endpoints(workspace)
    change = Change(
        inputs.refs or None, inputs.options if inputs.script is not None else None, inputs.source,
        None if dc is None else read_deployment(dc),
    )  # fmt: skip
    says_version = change != Change()
    if says_version and version is None:
        raise UsageError("is not said", where="--version", hint="say which version gets that: --version NAME")
    if not says_version and not settings.given and default is None and control is None:
        raise UsageError("says nothing to change", where=f"endpoint {name}", hint="see: edgepack endpoint update -h")
    found = None
    with showing_log(), bars() as progress:
        if version is not None and says_version:
            found = endpoints.update_version(name, version, change, progress=progress)
        if found is None or settings.given or default is not None or control is not None:
            found = endpoints.update(name, settings, default, control)
    answer(output, endpoint_json(workspace, found), [endpoint_line(workspace, found)])
