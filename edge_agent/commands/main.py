"""The ``edge-agent`` command and its verbs; a verb's module is imported only when it is called."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from edge_agent.device import PATIENCE_SECONDS, Device
from edgepack import __version__
from edgepack.host.commands import LazyGroup, debug_option
from edgepack.host.console import report_errors

# Verb -> the line that help shows for it, in the order in which they are used.
VERBS = {
    "trust": "Trust the signatures of a public key.",
    "import": "Import a bundle.",
    "apply": "Make the device run a desired state.",
    "status": "Show what runs.",
    "rollback": "Return a service to its last good image.",
    "receipt": "Write what the device holds.",
}


@click.group("edge-agent", cls=LazyGroup, verbs=VERBS, modules="edge_agent.commands.")
@click.option(
    "--state-dir", type=click.Path(file_okay=False, readable=False, path_type=Path), envvar="EDGEPACK_STATE_DIR",
    default=Path("/var/lib/edgepack"), show_default=True, help="The device's folder.",
)  # fmt: skip
@click.option(
    "--runtime", type=click.Choice(["auto", "docker", "crun", "process"]), default="auto", show_default=True,
    envvar="EDGEPACK_RUNTIME",
    help="What runs services; auto keeps each service where it runs, and chooses the first that works for a new one.",
)  # fmt: skip
@click.option(
    "--wait", "patience", type=click.FloatRange(min=0), default=PATIENCE_SECONDS, show_default=True,
    envvar="EDGEPACK_WAIT", metavar="SECONDS", help="How long to wait for another command that is changing the device.",
)  # fmt: skip
@debug_option
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, state_dir: Path, runtime: str, patience: float) -> None:
    """Run signed scoring containers on this device, and roll a service back when it fails."""
    context.obj = Device(state_dir, runtime, patience)


def main() -> None:
    """Entry point of the ``edge-agent`` command."""
    # What must be private or reachable gets its mode by name; this is for everything else, the files of programs that
    # the agent starts included. The umask of whoever calls it must not decide whether a service can read its image.
    os.umask(0o022)
    sys.exit(report_errors(cli, "edge-agent", "EDGEPACK", "agent"))
