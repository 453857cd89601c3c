"""``edgepack service deploy``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT, Number
from edgepack.host.console import answer
from packager.bars import bars
from packager.commands.deployment_options import configuration_of
from packager.commands.image_inputs import ImageInputs, image_inputs
from packager.commands.options import creating, pairs
from packager.commands.service_views import service_json, service_row, showing_log
from packager.workspaces.workspace import Workspace


@click.command("deploy")
@click.option("-n", "--name", required=True, help="The service's name, such as churn.")
@image_inputs
@click.option("--dc", type=INPUT, metavar="FILE", help="A deployment configuration; on this machine without one.")
@click.option(
    "--target",
    metavar="NAME",
    help="The device; the compute target, or the context of the kubeconfig.  [default: the only one, the current one]",
)
@click.option("--port", type=Number(1, 65535, kind=int), help="Where it answers.  [default: a free port]")
@click.option("--description", help="What the service is for.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of the service; may be given again.")
@click.option(
    "--property", "properties", multiple=True, metavar="KEY=VALUE", help="A property of it, which stays; the same."
)
@click.option("--overwrite", is_flag=True, help="Replace a service of that name.")
@click.option("--no-wait", is_flag=True, help="Return when it is on its way; edgepack service show tells how it ends.")
@creating
def command(
    name: str,
    dc: Path | None,
    target: str | None,
    port: int | None,
    description: str | None,
    tags: tuple[str, ...],
    properties: tuple[str, ...],
    overwrite: bool,
    no_wait: bool,
    inputs: ImageInputs,
    workspace: Workspace,
    output: str,
) -> None:
    """Run models as a service, and wait until it is healthy."""
    from packager.services.configuration.values import ComputeType
    from packager.services.deploying import Services
    from packager.services.plan import Request

    if not inputs.refs and inputs.script is None:
        raise UsageError("has no model", where=f"service {name}", hint="name one: -m NAME[:VERSION]")
    configuration = configuration_of(dc, port)
    if target is not None and configuration.deployment.compute_type is ComputeType.LOCAL:
        raise UsageError("is for a service elsewhere", where="--target", hint="say where by a file: --dc FILE")
    request = Request(
        name, inputs.refs, inputs.options, configuration, target, inputs.source, description,
        pairs(tags, "--tag"), pairs(properties, "--property"),
    )  # fmt: skip
    services = Services(workspace)
    with showing_log(), bars() as progress:
        service, seen = services.deploy(request, overwrite=overwrite, wait=not no_wait, progress=progress)
    answer(output, service_json(workspace, service, seen), [service_row(workspace, service, seen)])
