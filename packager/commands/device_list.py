"""``edgepack device list``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from packager.commands.device_views import device_row
from packager.commands.options import common
from packager.fleet.device import Device
from packager.workspaces.workspace import Workspace


@click.command("list")
@click.option("--group", metavar="G", help="The devices of this group.")
@common
def command(group: str | None, workspace: Workspace, output: str) -> None:
    """List the devices."""
    found: tuple[Device, ...] = ()
    if not workspace.is_unused:
        found = workspace.devices.list() if group is None else workspace.devices.of_group(group)
    if not found:
        note("no devices yet; add one with: edgepack device add NAME --identity FILE")
    answer(output, [one.to_json() for one in found], [device_row(one) for one in found])
