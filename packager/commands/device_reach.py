"""``edgepack device reach``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT
from edgepack.host.console import answer
from packager.commands.device_views import device_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("reach")
@click.argument("name")
@click.option("--key", metavar="KEY", required=True, help="Sign what it is told with this key, which it trusts.")
@click.option("--broker", "url", metavar="URL", help="By this MQTT broker, such as mqtts://broker.example:8883.")
@click.option("--ca-file", type=INPUT, help="The authority of the broker's certificate, in PEM.")
@click.option("--certificate-file", type=INPUT, help="The own certificate at the broker, in PEM.")
@click.option("--key-file", type=INPUT, help="The private key of that certificate, in PEM.")
@click.option("--user", help="The user name at the broker.")
@click.option("--password-file", type=INPUT, help="A file with the password at the broker; read at each connection.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="By what is put into this folder: a stick, or the device's inbox.",
)  # fmt: skip
@common
def command(
    name: str,
    key: str,
    url: str | None,
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    user: str | None,
    password_file: Path | None,
    folder: Path | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Say how the device NAME is told what to run: by a broker, or by a folder that is carried to it."""
    from packager.fleet.broker import access_of
    from packager.fleet.reach import Reach

    if (url is None) == (folder is None):
        raise UsageError("needs --broker URL or --folder DIR, one of the two", where=f"device {name}")
    workspace.devices.get(name)
    workspace.keys.get(key)
    reach = Reach(
        key, url, _whole(ca_file), _whole(certificate_file), _whole(key_file), user, _whole(password_file),
        _whole(folder),
    )  # fmt: skip
    if url is not None:
        access_of(reach)
    elif ca_file or certificate_file or key_file or password_file or user:
        raise UsageError("is reached by a folder, which has no login", where=f"device {name}", hint="give --broker URL")
    device = workspace.devices.reach(name, reach)
    answer(output, device.to_json(), [device_row(device) | {"reached_by": url or folder}])


def _whole(path: Path | None) -> Path | None:
    """A path that is right in every folder."""
    return None if path is None else path.absolute()
