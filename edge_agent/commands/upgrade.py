"""``edge-agent upgrade``"""

from __future__ import annotations

import click

from edge_agent.commands.options import allow_unsigned, common
from edge_agent.device import Device
from edge_agent.upgrade.versions import ALIVE_SECONDS, Versions
from edgepack.host.commands import Number
from edgepack.host.console import answer, note


@click.command("upgrade")
@click.argument("image")
@click.option(
    "--probation",
    type=Number(0.1, 3600),
    metavar="SECONDS",
    default=ALIVE_SECONDS,
    show_default=True,
    help="How long it has to say that it is alive, before it stays.",
)
@allow_unsigned
@common
def command(device: Device, image: str, probation: float, allow_unsigned: bool, output: str) -> None:
    """Let the agent in IMAGE (a tag or a digest) take this one's place, once it has proven itself.

    It is started beside what is there; when it does not become ready, or ends, the version before runs on. Services
    are not touched.
    """
    from edge_agent.upgrade.install import check_room, install, named

    with device.using():
        version = install(device, named(device, image), allow_unsigned=allow_unsigned)
        versions = Versions.of(device.root)
        is_current = versions.current == version
        if not is_current:
            check_room(device.root, version)
            versions.propose(version, alive_seconds=probation)
            versions.sweep()
    value = {"version": version, "current": versions.current, "trial": versions.trial}
    answer(output, value, [{"version": version, "state": "current" if is_current else "to be tried"}])
    if not is_current:
        note("a running agent tries it within seconds, and else it is tried by the next: edge-agent run")
