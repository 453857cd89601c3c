"""``python -m edge_agent.daemon``: what ``edge-agent run`` becomes once it has read its configuration.

It gets the configuration as JSON on an inherited descriptor, so that it needs nothing to read and validate one itself:
that stays out of the memory of a process that runs for years.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import edgepack
from edge_agent.config.configuration import Configuration
from edge_agent.config.document import from_json
from edge_agent.config.place import remember_file
from edge_agent.daemon import boots
from edge_agent.daemon.forks import ForkServer
from edge_agent.daemon.links import make_link
from edge_agent.daemon.loop import Agent
from edge_agent.daemon.notify import Notifier
from edge_agent.daemon.signals import let_wait
from edge_agent.daemon.single import only_agent
from edge_agent.device import Device
from edge_agent.state.clock import WallTime
from edge_agent.state.commands import Begun
from edgepack.errors import EdgepackError, NoSpaceError
from edgepack.text import printable


def main() -> int:
    """Run until a signal ends it; the exit code."""
    let_wait()
    # Not by argparse, which would stay in memory.
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    file = given.get("--config")
    logging.basicConfig(format="edge-agent: %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        with os.fdopen(int(given["--configuration"]), "rb") as opened:
            configuration = from_json(json.load(opened))
        os.chdir("/")  # no file system is kept from being taken away
        # Before anything is locked or opened, which a process that was forked would hold.
        forks = ForkServer.begin(configuration.runtime)
        try:
            launcher = _run(configuration, None if file is None else Path(file), forks)
        finally:
            if forks is not None:
                forks.close()
        if launcher is not None:
            words = [] if file is None else ["--config", file]
            words += ["--state-dir", str(configuration.state_dir), "--runtime", configuration.runtime]
            base = str(getattr(sys, "_base_executable", "") or sys.executable)
            os.execv(base, [base, launcher, "run", *words])  # noqa: S606 - the next version, as this process
    except EdgepackError as error:
        sys.stderr.write(f"edge-agent: {printable(' '.join(str(error).splitlines()))}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"edge-agent: {error.filename or 'the system'}: {error.strerror or error}\n")
        return 1
    return 0


def _run(configuration: Configuration, file: Path | None, forks: ForkServer | None) -> str | None:
    """Run until it ends; what starts the next version, when it ended for that."""
    device = Device(configuration.state_dir, configuration.runtime)
    device.create()
    with only_agent(device.root):
        if file is not None:
            with suppress(OSError):  # its disk may be full: services run all the same
                remember_file(device.root, file)
        after_boot = boots.after_boot(device.root)
        session, floor, left = _begin(device)
        wall = WallTime(floor, time.monotonic())
        agent = Agent(
            device, configuration, file, session=session, after_boot=after_boot, wall=wall, left=left,
            links=make_link, notifier=Notifier(os.environ), version=edgepack.__version__,
            forks=forks,
        )  # fmt: skip
        return agent.upgrades.launcher if agent.run() else None


def _begin(device: Device) -> tuple[int, float, tuple[Begun, ...]]:
    """The number of this start, the least time that it is, and the commands in whose middle the agent ended.

    All of it is recorded, where there is space.
    """
    device.make_room()
    try:
        state = device.state
        return state.next_session(), state.time_floor(time.time()), state.left_commands()
    except NoSpaceError as error:  # services are started all the same
        logging.getLogger(__name__).warning("%s; the agent goes on", error)
        wanted = device.recorded()[1]
        return wanted.session + 1, max(time.time(), wanted.time), ()


if __name__ == "__main__":
    sys.exit(main())
