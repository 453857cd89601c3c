"""``edgepack desired sign``"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT, OUTPUT, Number
from edgepack.host.console import answer, note
from edgepack.host.files import BY_UMASK, atomic_write
from edgepack.names import check_device_name, check_group_name
from edgepack.state.desired import MAX_SERIAL, PAYLOAD_TYPE, Desired
from packager.commands.options import common
from packager.commands.small_files import read_desired_state
from packager.workspaces.workspace import Workspace


@click.command("sign")
@click.argument("file", type=INPUT)
@click.option("--key", metavar="NAME", required=True, help="Sign with this key, which the device trusts.")
@click.option("-o", "path", type=OUTPUT, help="The file.  [default: stdout]")
@click.option("--serial", type=Number(0, MAX_SERIAL, kind=int), help="Set the serial; devices take no lower one later.")
@click.option("--device", metavar="NAME", help="Sign it for this device: no other one takes it.")
@click.option("--group", metavar="NAME", help="Sign it for the devices of this group.")
@common
def command(
    file: Path,
    key: str,
    path: Path | None,
    serial: int | None,
    device: str | None,
    group: str | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Check the desired state in FILE and sign it, for: edge-agent apply."""
    from edgepack.signing.envelope import sign
    from packager.layers.secrets import check_written

    desired = _addressed(Desired.from_bytes(read_desired_state(file), file), device, group)
    if serial is not None:
        desired = replace(desired, serial=serial)
    desired = replace(desired, signed_at=max(int(time.time()), desired.signed_at or 0))
    private = workspace.keys.get(key)
    check_written(desired.to_bytes(), file, "a desired state")
    signed = sign(desired.to_bytes(), PAYLOAD_TYPE, private)
    if path is not None:
        atomic_write(path, signed, BY_UMASK)
        value = {"path": str(path), "serial": desired.serial, "key_id": private.id}
        value |= {"device": desired.device, "group": desired.group}
        answer(output, value, [value], written=[path])
    else:
        click.echo(signed.decode())
    if desired.serial is None:
        note("it has no serial; a device would take it again at any later time: give it one with --serial")


def _addressed(desired: Desired, device: str | None, group: str | None) -> Desired:
    """The document for ``device`` or ``group``, instead of whom it names itself."""
    if device is not None and group is not None:
        raise UsageError("--device and --group exclude each other", hint="sign the document once for each")
    if device is not None:
        return replace(desired, device=check_device_name(device), group=None)
    if group is not None:
        return replace(desired, device=None, group=check_group_name(group))
    return desired
