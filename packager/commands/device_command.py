"""``edgepack device command``"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from edgepack.errors import UsageError
from edgepack.host.commands import OUTPUT, Choice, Number
from edgepack.host.console import answer, note
from edgepack.names import check_device_name, check_service_name
from edgepack.state.commands import (
    LINES,
    MAX_LINES,
    MAX_VALID_SECONDS,
    OF_SERVICE,
    VERBS,
    CommandAnswer,
    Verb,
)
from edgepack.state.desired import MAX_SERIAL
from edgepack.state.times import format_time
from edgepack.state.topics import DeviceTopics
from edgepack.text import printable
from packager.commands.broker_options import broker_options
from packager.commands.options import common
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.fleet.broker import BrokerAccess

_TIMEOUT_SECONDS = 60
# Clocks differ by that much, and who waits is not served by a command that is done hours later; a stick travels.
_LEAST_VALID_SECONDS, _STICK_SECONDS = 300, 7 * 24 * 3600


@click.command("command")
@click.argument("name")
@click.argument("verb", type=Choice(VERBS))
@click.argument("service", required=False)
@click.option("--key", metavar="KEY", required=True, help="Sign with this key, which the device trusts.")
@click.option("-n", "--lines", type=Number(1, MAX_LINES, kind=int), metavar="N", help=f"How many of the last lines, for logs.  [default: {LINES}]")  # fmt: skip  # noqa: E501
@click.option("--timeout", type=Number(1, 24 * 3600), default=_TIMEOUT_SECONDS, show_default=True, metavar="SECONDS", help="How long to wait for the answer.")  # fmt: skip  # noqa: E501
@click.option(
    "--valid-for", type=Number(1, MAX_VALID_SECONDS, kind=int), metavar="SECONDS",
    help="How long the device may do it.  [default: as long as the answer is waited for, at least 300; with -o alone 7 "
    "days]",
)  # fmt: skip
@click.option("--serial", type=Number(1, MAX_SERIAL, kind=int), help="The serial.  [default: one more than the last]")
@click.option("-o", "--out", "path", type=OUTPUT, help="Write the signed command to this file, for a stick.")
@broker_options
@common
def command(
    name: str,
    verb: str,
    service: str | None,
    key: str,
    lines: int | None,
    timeout: float,
    valid_for: int | None,
    serial: int | None,
    path: Path | None,
    access: BrokerAccess | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Let the device NAME do VERB once, for one SERVICE or for itself, and print its answer.

    restart, rollback, stop, start and logs are for a service; gc, report and ping for the device. It is signed, taken
    once, and not after its end.
    """
    from edgepack.host.files import BY_UMASK, atomic_write
    from packager.fleet.broker import connected
    from packager.fleet.commanding import Order, publish_order, wait_for_answer

    wanted = _checked(cast(Verb, verb), service, lines)
    topics = DeviceTopics(check_device_name(name))
    if path is None and access is None:
        raise UsageError("say where to", where=f"device {name}", hint="give --broker URL, or -o FILE for a stick")
    workspace.devices.get(name)
    private = workspace.keys.get(key)
    valid = valid_for or (_STICK_SECONDS if access is None else int(max(timeout, _LEAST_VALID_SECONDS)))
    order = Order.new(name, wanted, service, valid, lines)
    with nullcontext() if access is None else connected(access, topics.events, topics.status) as connection:

        def send(signed: bytes) -> None:
            if connection is not None:
                publish_order(connection, topics, signed)
            if path is not None:
                atomic_write(path, signed, BY_UMASK)

        deployment = order.sign(workspace.devices, private, send, serial)
        found = None if connection is None else wait_for_answer(connection, topics, order, timeout)
    if found is None:
        value = {
            "device": name, "id": order.id, "serial": deployment.serial, "verb": verb, "service": service,
            "not_after": format_time(order.until), "key_id": private.id, "path": str(path),
        }  # fmt: skip
        row = {"device": name, "command": verb, "service": service, "serial": deployment.serial, "file": path}
        answer(output, value, [row], written=[path])
        note(f"put {path} into the inbox of the device; it is done once, until {format_time(order.until)}")
        return
    _show(output, found)


def _checked(verb: Verb, service: str | None, lines: int | None) -> Verb:
    """The verb, when what is given with it fits."""
    if (service is None) == (verb in OF_SERVICE):
        what = f"{verb} is for a service, and none is given" if service is None else f"{verb} is not for a service"
        raise click.UsageError(f"{what}.")
    if service is not None:
        check_service_name(service)
    if lines is not None and verb != "logs":
        raise click.UsageError("--lines is for logs.")
    return verb


def _show(output: str, found: CommandAnswer) -> None:
    """Print the answer; raises the error that the command would have ended with on the device."""
    from packager.fleet.commanding import raise_refused

    row = {"device": found.device, "command": found.verb, "service": found.service, "status": found.status}
    row |= {key: value for key, value in found.payload.items() if isinstance(value, str | int) and key != "is_cut"}
    if output == "json":
        answer(output, found.to_json(), [])
    raise_refused(found)
    if output == "json":
        return
    if found.verb != "logs":
        answer(output, None, [row])
        return
    lines = [str(line) for line in found.payload.get("lines") or []]
    if not lines:
        note(f"service {found.service} has written nothing, as far as its log is kept")
    for line in lines:
        click.echo(printable(line) if sys.stdout.isatty() else line)
    if found.payload.get("is_cut"):
        note("the log has more than an answer may hold; ask for fewer lines, or read it on the device")
