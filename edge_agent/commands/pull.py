"""``edge-agent pull``"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from edge_agent.commands.options import allow_unsigned, common, naming_trust, short_keys
from edge_agent.device import Device
from edgepack.host.console import answer, human, note


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
@click.option(
    "--config", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="The configuration, whose sources a REFERENCE without a registry is for.  [default: the device's]",
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
    file: Path | None,
    allow_unsigned: bool,
    output: str,
) -> None:
    """Fetch the image REFERENCE, verified, and start nothing; an interrupted pull goes on where it was."""
    from edge_agent.commands.percent import percent
    from edge_agent.config.configuration import RegistrySource
    from edge_agent.config.read import find_configuration
    from edge_agent.sources.pull import find
    from edgepack.oci.docker_config import login_file
    from edgepack.oci.reference import image_tag

    if registry_credentials is not None:
        login_file(registry_credentials)  # what is wrong with it is said also where nobody asks for a login
    device.check_place()
    configuration = find_configuration(file, device.root)
    unsigned = allow_unsigned or configuration.allow_unsigned_images
    configuration = replace(configuration, allow_unsigned_images=unsigned)
    said = plain_http or ca is not None or registry_credentials is not None
    given = RegistrySource("", credentials_file=registry_credentials, ca_file=ca, plain_http=plain_http)
    name = None if tag is None else image_tag(tag)
    with naming_trust(), percent(reference) as (tell, moved):
        found = find(device, reference, configuration, given if said else None, tag=name)
        found.fetch(found.image, tell)
    keys = list(found.sources.signers(found.image))
    answer(
        output,
        {"tag": found.tag, "digest": str(found.image), "signed_by": keys, "moved_bytes": moved.bytes,
         "present_bytes": moved.present},
        [{"image": found.tag, "digest": found.image.short, "signed_by": short_keys(keys)}],
    )  # fmt: skip
    note(f"its digest is {found.image}")
    note(f"pulled {human(moved.bytes)}" if moved.bytes else "all of it was here already")
