"""``edge-agent apply``"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import click

from edge_agent.commands.options import allow_unsigned, answer_status, common, naming_trust, read_file
from edge_agent.device import Device
from edgepack.documents import parse_object
from edgepack.errors import UsageError
from edgepack.host.commands import INPUT
from edgepack.state.desired import PAYLOAD_TYPE, Desired
from edgepack.state.topics import COMMAND


@click.command("apply")
@click.argument("file", type=INPUT)
@allow_unsigned
@click.option(
    "--reset-serial", is_flag=True,
    help="Take FILE whatever serial was accepted before, and count from its serial, or without serials, from here on.",
)  # fmt: skip
@common
def command(device: Device, file: Path, allow_unsigned: bool, reset_serial: bool, output: str) -> None:
    """Make the device run the desired state in FILE (JSON, or signed), and wait until it is healthy."""
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status

    desired = _read_desired(device, file)
    _check_addressed(device, desired, file)
    Runner(device, allow_unsigned=allow_unsigned, reset_serial=reset_serial).apply(desired)
    answer_status(output, status(device))


def _read_desired(device: Device, file: Path) -> Desired:
    """A document that the operator wrote by hand, or one in an envelope, whose signature is then verified."""
    from edgepack.bundle.tar import is_bundle
    from edgepack.signing.envelope import verify

    if is_bundle(file):
        raise UsageError("is a bundle", where=file, hint=f"import it with: edge-agent import {shlex.quote(str(file))}")
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
