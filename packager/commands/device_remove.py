"""``edgepack device remove``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from packager.commands.device_views import device_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("remove")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Forget a device. What runs on it goes on running."""
    device = workspace.devices.remove(name)
    answer(output, device.to_json(), [device_row(device)])
    note(f"remove the lines of user {name} from the broker's acl_file, so that it can no longer log in")
