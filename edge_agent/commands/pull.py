"""``edge-agent pull``"""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.commands.options import allow_unsigned, common, naming_trust
from edge_agent.device import Device
from edgepack.host.console import answer, note


@click.command("pull")
@click.argument("reference")
@click.option("-t", "--tag", help="Its name on the device.  [default: the reference without the registry]")
@click.option("--plain-http", is_flag=True, help="The registry of REFERENCE has no TLS.")
@click.option(
    "--ca", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Trust the authorities in this file (PEM) beside the system's.",
)  # fmt: skip
@click.option(
    "--registry-credentials", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Log in as this file says, in Docker's form (auths), before docker login and podman login; mode 0600.",
)  # fmt: skip
@allow_unsigned
@common
def command(
    device: Device,
    reference: str,
    tag: str | None,
    plain_http: bool,
    ca: Path | None,
    registry_credentials: Path | None,
    allow_unsigned: bool,
    output: str,
) -> None:
    """Fetch the image REFERENCE, verified, and start nothing; an interrupted pull goes on where it was."""
    from edge_agent.config.configuration import RegistrySource
    from edge_agent.sources.meter import Caps
    from edge_agent.sources.sources import Sources
    from edgepack.oci.reference import Reference, image_tag

    found = Reference.parse(reference)
    name = image_tag(tag or f"{found.repository}:{found.tag or 'latest'}")
    prefix, _, last = found.repository.rpartition("/")
    source = RegistrySource(
        found.registry, prefix, credentials_file=registry_credentials, ca_file=ca, plain_http=plain_http
    )
    sources = Sources(device, [source], allow_unsigned=allow_unsigned, caps=Caps(stalled_seconds=0))
    with naming_trust():
        image = found.digest or sources.look_up(f"{last}:{found.tag}")
        sources.fetch(image, names=[last])
    with device.using():
        device.store.tag(name, device.store.describe(image))
    answer(output, {"tag": name, "digest": str(image)}, [{"image": name, "digest": image}])
    note(f"pulled {name}")
