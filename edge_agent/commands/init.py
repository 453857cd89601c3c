"""``edge-agent init``"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.commands.options import runtime_option, state_dir_option
from edge_agent.config.configuration import STATE_DIR, host_name
from edge_agent.device import Device
from edgepack.errors import EdgepackError, UsageError, disk_errors
from edgepack.host.commands import INPUT, OUTPUT, debug_option, output_option
from edgepack.host.console import answer, note
from edgepack.host.home import home_folder

if TYPE_CHECKING:
    from edge_agent.identity.setup import Wanted


@click.command("init")
@click.option("--broker", metavar="URL", help="The MQTT broker, such as mqtts://broker.example:8883.")
@click.option("--device", "name", metavar="NAME", help="What the device is called.  [default: as its host]")
@click.option("--group", "groups", multiple=True, metavar="G", help="A group; the first one goes before the others.")
@click.option("--ca-file", type=INPUT, help="The authority of the broker's certificate, in PEM.")
@click.option("--certificate-file", type=INPUT, help="The device's own certificate at the broker, in PEM.")
@click.option("--key-file", type=INPUT, help="The private key of that certificate, in PEM.")
@click.option("--user", help="The user name at the broker.")
@click.option("--password-file", type=INPUT, help="A file with the password at the broker.")
@click.option(
    "--config", "file", type=OUTPUT,
    help="The configuration.  [default: /etc/edge-agent.yml, or edge-agent.yml in another state folder]",
)  # fmt: skip
@click.option(
    "-o", "--out", "path", type=OUTPUT, help="The identity file.  [default: identity.json in the state folder]"
)
@click.option("--systemd", is_flag=True, help="Write a systemd unit that runs the agent; as a user, one of the user's.")
@click.option("--force", is_flag=True, help="Write the configuration and the unit anew. The device's key stays.")
@state_dir_option
@runtime_option
@output_option
@debug_option
def command(
    broker: str | None,
    name: str | None,
    groups: tuple[str, ...],
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    user: str | None,
    password_file: Path | None,
    file: Path | None,
    path: Path | None,
    systemd: bool,
    force: bool,
    state_dir: Path,
    runtime: str,
    output: str,
) -> None:
    """Make this device's identity and configuration, and say what the workstation needs of it."""
    from edge_agent.config.place import default_file, remember_file
    from edge_agent.config.read import check_text, read_configuration
    from edge_agent.config.template import template
    from edge_agent.config.unit import check_unit
    from edge_agent.identity.setup import IDENTITY_FILE, Wanted, check_free, write_files, write_identity

    beside = {
        "ca_file": ca_file, "certificate_file": certificate_file, "key_file": key_file, "user": user,
        "password_file": password_file,
    }  # fmt: skip
    if broker is None and any(beside.values()):
        given = next(key for key, value in beside.items() if value is not None)
        raise UsageError("is given without --broker", where=f"--{given.replace('_', '-')}", hint="give the broker too")
    device = Device(state_dir, runtime)
    file = (file or default_file(state_dir)).absolute()
    wanted = []
    if file.exists() and not force and name is None and broker is None and not groups:  # only the rest is to be made
        known = read_configuration(file)
        name, groups, device = known.device, known.groups, Device(known.state_dir, known.runtime)
    else:
        name = name or host_name()
        fields = {key: value.absolute() if isinstance(value, Path) else value for key, value in beside.items()}
        text = template(name, groups, device.root, runtime, broker, **fields)
        check_text(text, file)
        wanted.append(Wanted(file, text))
    if systemd:
        unit = _unit(file, device.root)
        check_unit(unit.text, for_user=os.geteuid() != 0)
        wanted.append(unit)
    device.check_place()
    device.create()
    check_free(wanted, force=force)
    target = (path or device.root / IDENTITY_FILE).absolute()
    identity = write_identity(device.root, target, name, groups)
    write_files(wanted)
    with disk_errors(device.root):
        remember_file(device.root, file)
    value = {
        "device": name, "key_id": identity.key.id, "platform": str(identity.platform), "groups": list(groups),
        "identity": str(target), "configuration": str(file), "unit": str(wanted[-1].path) if systemd else None,
    }  # fmt: skip
    row = {key: " ".join(groups) if key == "groups" else one for key, one in value.items() if key != "key_id" and one}
    answer(output, value, [row], written=[target])
    if broker is not None and _is_open(broker):
        note(f"what goes to {broker} and comes from it can be read on the way, a password too; mqtts:// has TLS")
    _say_what_is_next(name, target, file, device.root, systemd=systemd)


def _is_open(url: str) -> bool:
    """Whether the broker is reached over the network without TLS."""
    from edge_agent.config.configuration import Broker
    from edgepack.oci.reference import is_loopback

    broker = Broker.at(url)
    return not broker.tls and broker.socket is None and not is_loopback(broker.host)


def _say_what_is_next(name: str, identity: Path, file: Path, root: Path, *, systemd: bool) -> None:
    add = shlex.join(["edgepack", "device", "add", name, "--identity", identity.name])
    program = os.environ.get("EDGEPACK_LAUNCHER") or "edge-agent"
    beside = [] if root == STATE_DIR else ["--state-dir", str(root)]
    note(f"carry {identity} to the workstation; there run: {add}")
    trust = shlex.join([program, *beside, "trust", "KEY.pub"])
    note(f"carry the public key of who signs to this device; here run: {trust}")
    if not systemd:
        note(f"then start it with: {shlex.join([program, 'run', '--config', str(file)])}")
    elif os.geteuid() == 0:
        note("then start it with: systemctl daemon-reload && systemctl enable --now edge-agent")
    else:
        note("then start it with: systemctl --user daemon-reload && systemctl --user enable --now edge-agent")
        note(f"so that it runs when nobody is logged in, root runs: loginctl enable-linger {_user()}")


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _unit(file: Path, root: Path) -> Wanted:
    from edge_agent.config.unit import SYSTEM_FOLDER, UNIT, USER_FOLDER, unit_text
    from edge_agent.identity.setup import Wanted

    for_user = os.geteuid() != 0
    home = home_folder()
    if for_user and home is None:
        raise UsageError("this user has no home folder for its unit", where="--systemd", hint="set HOME")
    folder = home / USER_FOLDER if for_user and home is not None else SYSTEM_FOLDER
    if not sys.executable:
        raise EdgepackError("the path of this Python is not known, so no unit can start it", where="--systemd")
    launcher = os.environ.get("EDGEPACK_LAUNCHER")
    if launcher and Path(launcher).is_file():  # the agent as one file: what gives a version back that fails
        program = [str(Path(getattr(sys, "_base_executable", sys.executable))), launcher]
    else:
        program = [sys.executable, "-P", "-m", "edge_agent"]  # without the current folder on the path of modules
    words = [*program, "run", "--config", str(file)]
    return Wanted(folder / UNIT, unit_text(words, [Path(program[0]), file, root], for_user=for_user))
