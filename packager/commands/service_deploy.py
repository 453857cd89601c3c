"""``edgepack service deploy``"""

from __future__ import annotations

import click

from edgepack.errors import UsageError
from edgepack.host.commands import Number
from edgepack.host.console import answer
from packager.bars import bars
from packager.commands.image_inputs import ImageInputs, image_inputs
from packager.commands.options import creating
from packager.commands.service_views import service_json, service_row
from packager.workspaces.workspace import Workspace


@click.command("deploy")
@click.option("-n", "--name", required=True, help="The service's name, such as churn.")
@image_inputs
@click.option("--port", type=Number(1, 65535, kind=int), help="Where it answers.  [default: a free port]")
@click.option("--overwrite", is_flag=True, help="Replace a service of that name.")
@creating
def command(
    name: str, port: int | None, overwrite: bool, inputs: ImageInputs, workspace: Workspace, output: str
) -> None:
    """Run models as a service, and wait until it is healthy."""
    from packager.services.configuration.values import LocalDeployment
    from packager.services.deploying import Request, Services

    if not inputs.refs and inputs.script is None:
        raise UsageError("has no model", where=f"service {name}", hint="name one: -m NAME[:VERSION]")
    written = {"computeType": "local"} | ({} if port is None else {"port": port})
    request = Request(name, inputs.refs, inputs.options, LocalDeployment(port), written)
    with bars() as progress:
        Services(workspace).deploy(request, overwrite=overwrite, progress=progress)
    service, seen = Services(workspace).observe(name)
    answer(output, service_json(workspace, service, seen), [service_row(workspace, service, seen)])
