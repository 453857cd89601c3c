"""``edgepack device reach``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT
from edgepack.host.console import answer
from packager.commands.device_views import device_row
from packager.commands.options import common
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.fleet.reach import Reach


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
@click.option("--ssh", metavar="USER@HOST[:PORT]", help="By the agent on this machine, called by the system's ssh.")
@click.option("--identity-file", type=INPUT, help="The private key for ssh.  [default: as ssh chooses]")
@click.option("--ssh-config", type=INPUT, help="The configuration for ssh.  [default: as ssh chooses]")
@click.option("--agent", metavar="PATH", help="Where edge-agent is on that machine.  [default: as its shell finds it]")
@click.option("--state-dir", metavar="DIR", help="The device's folder on that machine.  [default: as edge-agent has]")
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
    ssh: str | None,
    identity_file: Path | None,
    ssh_config: Path | None,
    agent: str | None,
    state_dir: str | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Say how the device NAME is told what to run: by a broker, by a folder that is carried to it, or by ssh."""
    from packager.fleet.broker import access_of
    from packager.fleet.reach import Reach

    reach = Reach(
        key, url, _whole(ca_file), _whole(certificate_file), _whole(key_file), user, _whole(password_file),
        _whole(folder), ssh, _whole(identity_file), _whole(ssh_config), agent, state_dir,
    )  # fmt: skip
    _check_one_way(name, reach)
    workspace.devices.get(name)
    workspace.keys.get(key)
    if url is not None:
        access_of(reach)
    elif ssh is not None:
        from packager.fleet.ssh import Ssh

        Ssh.of(reach)
    device = workspace.devices.reach(name, reach)
    answer(output, device.to_json(), [device_row(device) | {"reached_by": reach.way}])


# What is said beside each way.
_BESIDE = {
    "url": ("ca_file", "certificate_file", "key_file", "user", "password_file"),
    "folder": (),
    "ssh": ("identity_file", "ssh_config", "agent", "state_dir"),
}


def _check_one_way(name: str, reach: Reach) -> None:
    """Raise ``UsageError`` unless ``reach`` has one way, and nothing of another."""
    ways = [way for way in _BESIDE if getattr(reach, way) is not None]
    where, options = f"device {name}", {"url": "--broker URL", "folder": "--folder DIR", "ssh": "--ssh USER@HOST"}
    if len(ways) != 1:
        raise UsageError(f"needs {options['url']}, {options['folder']} or {options['ssh']}, one of them", where=where)
    for way, others in _BESIDE.items():
        for other in others:
            if way != ways[0] and getattr(reach, other) is not None:
                what = f"--{other.replace('_', '-')} is for another way than {options[ways[0]]}"
                raise UsageError(what, where=where, hint=f"leave it out, or give {options[way]}")


def _whole(path: Path | None) -> Path | None:
    """A path that is right in every folder."""
    return None if path is None else path.absolute()
