"""``edge-agent deploy``"""

from __future__ import annotations

from dataclasses import replace

import click

from edge_agent.commands.options import MEMORY, PORT, Variable, allow_unsigned, answer_status, common
from edge_agent.device import Device


@click.command("deploy")
@click.argument("reference", metavar="REF")
@click.option("--port", type=PORT, metavar="PORT", help="The port on which it answers.")
@click.option("--name", help="The service's name.  [default: REF without registry and tag]")
@click.option(
    "--env", "env", multiple=True, type=Variable(), metavar="NAME=VALUE",
    help="A variable of its environment; may be given again. Without any, it keeps those that it has.",
)  # fmt: skip
@click.option("--memory", type=MEMORY, metavar="SIZE", help="The most memory that it may use, such as 512M.")
@allow_unsigned
@common
def command(
    device: Device,
    reference: str,
    port: int | None,
    name: str | None,
    env: tuple[tuple[str, str], ...],
    memory: int | None,
    allow_unsigned: bool,
    output: str,
) -> None:
    """Run the image REF as a service, and wait until it is healthy.

    REF is a tag on this device, such as churn:1, a digest, or what one of the configured sources has by that name. A
    service that is there already keeps its settings where no other ones are given.
    """
    from edge_agent.config.read import find_configuration
    from edge_agent.reconcile.deployment import deployment
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status
    from edge_agent.sources.pull import find
    from edge_agent.upgrade.install import refuse_agent

    device.check_place()
    configuration = find_configuration(None, device.root)
    unsigned = allow_unsigned or configuration.allow_unsigned_images
    found = find(device, reference, replace(configuration, allow_unsigned_images=unsigned), here=True)
    if device.store.has_digest(found.image):  # else it is told once it is here
        refuse_agent(device, found.image, reference)
    spec = deployment(reference, found.image, device.services(), name, port, dict(env), memory)
    Runner(device, allow_unsigned=unsigned).deploy(spec, found)
    answer_status(output, status(device))
