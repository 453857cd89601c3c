"""``edgepack service update``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT
from edgepack.host.console import answer
from packager.bars import bars
from packager.commands.image_inputs import ImageInputs, image_inputs
from packager.commands.options import common, pairs
from packager.commands.service_views import service_json, service_row, showing_log
from packager.workspaces.workspace import Workspace


@click.command("update")
@click.argument("name")
@image_inputs
@click.option("--dc", type=INPUT, metavar="FILE", help="A deployment configuration, of the same kind of target.")
@click.option("--description", help="What the service is for.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Its tags from now on; may be given again.")
@click.option(
    "--property", "properties", multiple=True, metavar="KEY=VALUE", help="A further property; may be given again."
)
@common
def command(
    name: str,
    dc: Path | None,
    description: str | None,
    tags: tuple[str, ...],
    properties: tuple[str, ...],
    inputs: ImageInputs,
    workspace: Workspace,
    output: str,
) -> None:
    """Change the models, the script, or how a service runs; the old version answers until the new one is healthy."""
    from packager.services.configuration.read import read_deployment
    from packager.services.deploying import Services
    from packager.services.plan import Change

    if inputs.script is None and inputs.options.environment is not None:
        raise UsageError("is given without a script", where="--environment", hint="name one by --ic or --entry-script")
    change = Change(
        inputs.refs or None,
        inputs.options if inputs.script is not None else None,
        inputs.source,
        None if dc is None else read_deployment(dc),
        description,
        pairs(tags, "--tag") if tags else None,
        pairs(properties, "--property") if properties else None,
    )
    services = Services(workspace)
    with showing_log(), bars() as progress:
        service, seen = services.update(name, change, progress)
    answer(output, service_json(workspace, service, seen), [service_row(workspace, service, seen)])
