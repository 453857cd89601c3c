"""``edgepack device show``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from packager.commands.device_views import device_row
from packager.commands.options import common
from packager.fleet.registry import Deployment, Target
from packager.workspaces.workspace import Workspace


@click.command("show")
@click.argument("name")
@click.option("--user", help="As which user the device logs in to the broker.  [default: NAME]")
@common
def command(name: str, user: str | None, workspace: Workspace, output: str) -> None:
    """Show a device, what was deployed to it and to its groups, and the broker's lines for it."""
    from packager.fleet.acl import acl_lines

    device = workspace.devices.get(name)
    targets = [Target("device", name), *(Target("group", group) for group in device.groups)]
    found = [one for one in map(workspace.devices.deployment, targets) if one is not None]
    lines = acl_lines(device, user)
    value = device.to_json() | {"deployments": [one.to_json() for one in found], "acl": list(lines)}
    answer(output, value, [device_row(device)])
    if output != "table":
        return
    for one in found:
        click.echo(f"{one.target}: serial {one.serial}, signed {one.signed}: {_services(one)}")
    if not found:
        note("nothing was deployed to it yet")
    note("lines of the broker's acl_file:")
    click.echo("\n".join(lines))


def _services(deployment: Deployment) -> str:
    services = deployment.document.get("services", [])
    return ", ".join(f"{one['name']} {one['image'][:19]}… ({one['status']})" for one in services) or "no services"
