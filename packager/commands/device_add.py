"""``edgepack device add``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT
from edgepack.host.console import answer, note
from edgepack.limits import LIMITS
from edgepack.names import check_device_name, check_group_name
from packager.commands.device_views import device_row
from packager.commands.options import creating
from packager.commands.small_files import read_small
from packager.workspaces.workspace import Workspace


@click.command("add")
@click.argument("name")
@click.option(
    "--identity", "file", type=INPUT, required=True, metavar="FILE", help="The file that edge-agent init wrote there."
)
@click.option("--group", "groups", multiple=True, metavar="G", help="A group of the device, beside those it names.")
@click.option("--user", help="As which user the device logs in to the broker.  [default: NAME]")
@click.option("--replace", is_flag=True, help="Take the new key of a device that was set up anew.")
@creating
def command(
    name: str, file: Path, groups: tuple[str, ...], user: str | None, replace: bool, workspace: Workspace, output: str
) -> None:
    """Take in the device NAME by its identity, and print the lines that the broker's acl_file needs for it."""
    from edgepack.state.identity import Identity
    from packager.fleet.acl import acl_lines

    check_device_name(name)
    data = read_small(
        file, LIMITS.identity_bytes, missing="there is no such identity", hint="write one with: edge-agent init"
    )
    identity = Identity.from_signed(data, file)
    if identity.name != name:
        raise UsageError(
            f"is the identity of {identity.name!r}, not of {name!r}", where=file,
            hint=f"give the name {identity.name}, or on the device run: edge-agent init --device {name} --force",
        )  # fmt: skip
    device = workspace.devices.add(identity, tuple(map(check_group_name, groups)), replace=replace)
    lines = acl_lines(device, user)
    answer(output, device.to_json() | {"acl": list(lines)}, [device_row(device)])
    if output == "table":
        note("add these lines to the acl_file of the broker (Mosquitto), and let it read that again:")
        click.echo("\n".join(lines))
    if added := [group for group in device.groups if group not in identity.groups]:
        note(f"the device listens to {', '.join(added)} only when groups in its configuration has it too")
