"""``edge-agent run``"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NoReturn

import click
from click.core import ParameterSource

from edge_agent.commands.options import runtime_option, state_dir_option
from edge_agent.config.configuration import Configuration
from edge_agent.config.document import to_json
from edge_agent.config.place import default_file
from edge_agent.config.read import find_configuration
from edge_agent.daemon.jobs import program
from edge_agent.daemon.signals import let_come, let_wait
from edgepack.host.commands import INPUT, debug_option


@click.command("run")
@click.option(
    "--config", "file", type=INPUT,
    help="The configuration.  [default: /etc/edge-agent.yml, or edge-agent.yml in another state folder]",
)  # fmt: skip
@state_dir_option
@runtime_option
@debug_option
@click.pass_context
def command(context: click.Context, file: Path | None, state_dir: Path, runtime: str) -> None:
    """Keep the services of this device running, and bring them to what is desired, until SIGTERM ends it.

    SIGHUP reads the configuration again.
    """
    folder = state_dir if _is_given(context, "state_dir") else None
    let_wait()  # a signal that comes now is about what is read now
    try:
        configuration = find_configuration(file, folder, runtime if _is_given(context, "runtime") else None)
    except BaseException:
        let_come()
        raise
    known = default_file(configuration.state_dir) if folder is None else default_file(folder)
    _become_the_agent(configuration, file or (known if known.exists() else None))


def _is_given(context: click.Context, name: str) -> bool:
    """Whether the value of a shared option was given: after the verb, before it, or by the environment."""
    one: click.Context | None = context
    while one is not None:
        if one.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
            return True
        one = one.parent
    return False


def _become_the_agent(configuration: Configuration, file: Path | None) -> NoReturn:
    """Let this process become one that needs none of what has read the configuration."""
    given = os.memfd_create("configuration", 0)
    os.write(given, json.dumps(to_json(configuration)).encode())
    os.lseek(given, 0, os.SEEK_SET)
    words = ["--configuration", str(given)]
    words += [] if file is None else ["--config", str(file.absolute())]
    argv = [*program("edge_agent.daemon"), *words]
    # One heap for all threads: each other one would keep its own share of what was once needed (mallopt(3)).
    os.execve(argv[0], argv, {"MALLOC_ARENA_MAX": "1", **os.environ})  # noqa: S606 - it is what is wanted
