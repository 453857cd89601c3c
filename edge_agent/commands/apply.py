"""``edge-agent apply``"""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from edge_agent.commands.options import allow_unsigned, answer_status, common, naming_trust, read_file
from edge_agent.device import Device
from edgepack.documents import parse_object
from edgepack.errors import NotFoundError, UsageError
from edgepack.host.commands import INPUT
from edgepack.state.desired import PAYLOAD_TYPE, Desired
from edgepack.state.topics import COMMAND


@click.command("apply")
@click.argument("file", type=INPUT)
@allow_unsigned
@click.option(
    "--pull", is_flag=True, help="Fetch what is not on the device first, from the configured sources.",
)  # fmt: skip
@click.option(
    "--reset-serial", is_flag=True,
    help="Take FILE whatever serial was accepted before, and count from its serial, or without serials, from here on.",
)  # fmt: skip
@common
def command(device: Device, file: Path, allow_unsigned: bool, pull: bool, reset_serial: bool, output: str) -> None:
    """Make the device run the desired state in FILE (JSON, or signed), and wait until it is healthy."""
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status
    from edge_agent.traffic.keeper import Routers

    desired = _read_desired(device, file)
    _check_addressed(device, desired, file)
    runner = Runner(device, allow_unsigned=allow_unsigned, reset_serial=reset_serial)
    try:
        runner.apply(desired)
    except NotFoundError:  # nothing was stopped
        if not pull:
            raise
        _fetch(device, desired, allow_unsigned=allow_unsigned)
        runner.apply(desired)
    answer_status(output, status(device), endpoints=Routers(device).report(*device.recorded()))


def _fetch(device: Device, desired: Desired, *, allow_unsigned: bool) -> None:
    """Bring the images that are to run from the configured sources; what is on the device stays as it is."""
    from edge_agent.commands.percent import percent
    from edge_agent.config.read import find_configuration
    from edge_agent.sources.pull import find

    device.check_place()
    configuration = find_configuration(None, device.root)
    unsigned = allow_unsigned or configuration.allow_unsigned_images
    configuration = replace(configuration, allow_unsigned_images=unsigned)
    for image in dict.fromkeys(str(one.image) for one in desired.services if one.status == "running"):
        with naming_trust(), percent(image) as (tell, _):
            found = find(device, image, configuration)
            found.fetch(found.image, tell)


def _read_desired(device: Device, file: Path) -> Desired:
    """A document that the operator wrote by hand, or one in an envelope, whose signature is then verified."""
    from edgepack.bundle.tar import is_bundle
    from edgepack.signing.envelope import verify

    with suppress(OSError):  # which reading it tells
        if file.is_file() and is_bundle(file):  # what comes by a pipe can be read once
            hint = f"import it with: edge-agent import {shlex.quote(str(file))}"
            raise UsageError("is a bundle", where=file, hint=hint)
    data = read_file(file, hint="write a desired state, see the README")
    hint = "give a desired state in JSON, or a signed one: docs/reference/device.md shows both"
    if "payloadType" not in parse_object(data, file, hint=hint):
        # Nobody has signed the time that it says.
        return replace(Desired.from_bytes(data, file), signed_at=None)
    with naming_trust():
        data = verify(data, PAYLOAD_TYPE, device.trust.keys(), where=file).payload
    return Desired.from_bytes(data, file)


def _check_addressed(device: Device, desired: Desired, file: Path) -> None:
    """Raise ``VerificationError`` for a document that is for another device, or for a group that this one is not in."""
    if desired.device is None and desired.group is None:
        return
    from edge_agent.config.read import find_configuration
    from edge_agent.reconcile.acceptance import Receiver, addressed, error_of
    from edge_agent.state.goals import Refusal

    one = find_configuration(None, device.root)
    found = addressed(desired, COMMAND, Receiver(one.device, one.groups))
    if isinstance(found, Refusal):
        raise error_of(found, file)
