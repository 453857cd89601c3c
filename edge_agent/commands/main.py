"""The ``edge-agent`` command and its verbs; a verb's module is imported only when it is called."""

from __future__ import annotations

import os
import sys

import click

from edge_agent.commands.options import runtime_option, state_dir_option, wait_option
from edgepack import __version__
from edgepack.host.commands import LazyGroup, debug_option
from edgepack.host.console import report_errors
from edgepack.host.encoding import use_utf8

# Verb -> the line that help shows for it, in the order in which they are used.
VERBS = {
    "init": "Make the identity and the configuration of this device.",
    "trust": "Trust the signatures of a public key.",
    "import": "Import bundles, or parts of one.",
    "pull": "Fetch an image from a registry.",
    "verify": "Check an image that is here, all of it.",
    "apply": "Make the device run a desired state.",
    "deploy": "Run an image as a service.",
    "status": "Show what runs.",
    "stop": "Stop a service.",
    "start": "Run a service that was stopped.",
    "restart": "Start a service anew.",
    "run": "Keep services running, and bring them to what is desired.",
    "logs": "Show what a service wrote.",
    "rollback": "Return a service to its last good image.",
    "remove": "Stop and remove a service.",
    "receipt": "Write what the device holds.",
    "upgrade": "Let another version of the agent take this one's place.",
    "gc": "Remove images that nothing needs.",
}


cli: click.Group = click.version_option(__version__, message="%(prog)s %(version)s")(
    LazyGroup(
        "edge-agent",
        verbs=VERBS,
        modules="edge_agent.commands.",
        options=[
            option.of_group(hidden=False) for option in (state_dir_option, runtime_option, wait_option, debug_option)
        ],
        help="Run signed scoring containers on this device, and roll a service back when it fails.",
    )
)


def main() -> None:
    """Entry point of the ``edge-agent`` command."""
    use_utf8()
    # What must be private or reachable gets its mode by name; this is for everything else, the files of programs that
    # the agent starts included. The umask of whoever calls it must not decide whether a service can read its image.
    os.umask(0o022)
    sys.exit(report_errors(cli, "edge-agent", "EDGEPACK", "agent"))
