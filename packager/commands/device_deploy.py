"""``edgepack device deploy``"""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.documents import canonical_json, parse_object
from edgepack.errors import IncompatibleError, UsageError
from edgepack.host.commands import OUTPUT, Number
from edgepack.host.console import answer, note
from edgepack.names import check_device_name, check_group_name
from edgepack.state.desired import MAX_SERIAL, PAYLOAD_TYPE, Desired
from packager.commands.broker_options import broker_options
from packager.commands.options import common
from packager.commands.small_files import read_desired_state
from packager.fleet.registry import Deployment, Target
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.fleet.broker import BrokerAccess
    from packager.fleet.device import Device


@click.command("deploy")
@click.argument("words", nargs=-1, required=True, metavar="[NAME] FILE")
@click.option("--group", metavar="G", help="Deploy to all devices of this group, instead of to the device NAME.")
@click.option("--key", metavar="KEY", required=True, help="Sign with this key, which the devices trust.")
@click.option("--serial", type=Number(1, MAX_SERIAL, kind=int), help="The serial.  [default: one more than the last]")
@click.option("-o", "--out", "path", type=OUTPUT, help="Write the signed document to this file, for a stick.")
@broker_options
@common
def command(
    words: tuple[str, ...],
    group: str | None,
    key: str,
    serial: int | None,
    path: Path | None,
    access: BrokerAccess | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Sign the desired state in FILE for a device or a group, with the next serial, and publish it or write it.

    FILE may name images by the tags of the workspace; the signed document names them by digest.
    """
    from edgepack.host.files import BY_UMASK, atomic_write
    from edgepack.signing.envelope import sign
    from edgepack.state.topics import DeviceTopics, group_desired
    from packager.fleet.broker import connected
    from packager.fleet.documents import addressed, read_desired
    from packager.layers.secrets import check_written

    target, file = _target(words, group)
    if path is None and access is None:
        raise UsageError("say where to", where=str(target), hint="give --broker URL, or -o FILE for a stick")
    devices = workspace.devices.of_group(target.name) if group is not None else (workspace.devices.get(target.name),)
    private = workspace.keys.get(key)
    desired = read_desired(read_desired_state(file), file, lambda tag: workspace.image(tag).digest)
    _check_platforms(workspace, desired, devices)
    check_written(desired.to_bytes(), file, "a desired state")

    def write(number: int) -> dict[str, Any]:
        """The document with its serial, for whom it is."""
        return parse_object(addressed(desired, target, number, int(time.time())).to_bytes(), file)

    topic = DeviceTopics(target.name).desired if group is None else group_desired(target.name)
    # A broker that is not there is found out before a serial is taken, and before anything is written.
    with nullcontext() if access is None else connected(access) as connection:

        def send(deployment: Deployment) -> None:
            signed = sign(canonical_json(deployment.document), PAYLOAD_TYPE, private)
            if connection is not None:
                connection.publish(topic, signed, retain=True)
            if path is not None:
                atomic_write(path, signed, BY_UMASK)

        deployment = workspace.devices.deploy(target, write, serial, send=send)
    services = [{"name": one.name, "image": str(one.image)} for one in desired.services]
    value = {
        target.kind: target.name, "serial": deployment.serial, "key_id": private.id,
        "topic": topic if access is not None else None, "path": None if path is None else str(path),
        "devices": [one.name for one in devices], "services": services,
    }  # fmt: skip
    row = {
        target.kind: target.name, "serial": deployment.serial, "devices": len(devices),
        "services": " ".join(one.name for one in desired.services),
    } | ({} if path is None else {"file": path}) | ({} if access is None else {"topic": topic})  # fmt: skip
    answer(output, value, [row], written=[] if path is None else [path])
    if path is not None and access is None:
        note(f"put {path} into the inbox of the device, or run there: edge-agent apply {path.name}")


def _target(words: tuple[str, ...], group: str | None) -> tuple[Target, Path]:
    wanted = "FILE, beside --group" if group is not None else "NAME and FILE"
    if len(words) != (1 if group is not None else 2):
        raise click.UsageError(f"Give {wanted}.")
    if group is not None:
        return Target("group", check_group_name(group)), Path(words[0])
    return Target("device", check_device_name(words[0])), Path(words[1])


def _check_platforms(workspace: Workspace, desired: Desired, devices: tuple[Device, ...]) -> None:
    """Raise ``IncompatibleError`` for an image that is here and has nothing for one of the devices."""
    from edgepack.oci.platforms import platform_manifest

    store = workspace.store
    images = {f"service {one.name}": one.image for one in desired.services if one.status == "running"}
    if desired.agent is not None:
        images["the agent"] = desired.agent
    here = {what: image for what, image in images.items() if store.has_digest(image)}
    for what, image in here.items():
        described = store.describe(image)
        for device in devices:
            try:
                platform_manifest(store, described, device.platform)
            except IncompatibleError as error:
                raise IncompatibleError(error.what, where=f"{what} on device {device.name}", hint=error.hint) from error
    for what, image in images.items():
        if what not in here:
            note(f"image {image} of {what} is not in this workspace, so it was not checked")
