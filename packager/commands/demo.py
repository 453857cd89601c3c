"""``edgepack demo``"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from edgepack.host.commands import Choice, Number, debug_option
from edgepack.host.scratch import scratch_folder


@click.command("demo")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Work here and keep everything.")
@click.option(
    "--port",
    type=Number(1, 65535, kind=int),
    help="Port of the service.  [default: 6789, or a free one if it is taken]",
)
@click.option(
    "--runtime", type=Choice(["auto", "docker", "crun", "process"]), default="auto", show_default=True,
    help="What runs the service on the device.",
)  # fmt: skip
@debug_option
def command(folder: Path | None, port: int | None, runtime: str) -> None:
    """Train a model, register, convert, build, sign, carry to a device, score, update, roll back.

    Needs edgepack[all], a free port, and the first time the network. Everything it starts it stops.
    """
    from packager.demo import Demo, check_folder, check_packages, usable_port
    from packager.next_steps import next_steps

    signal.signal(signal.SIGTERM, _leave)  # as Ctrl-C does: what was started is stopped first

    check_packages()
    if folder is not None:
        check_folder(folder.absolute())
    number = usable_port(port, click.echo)
    if folder is not None:
        Demo(folder.absolute(), number, runtime, click.echo).run()
    else:
        with scratch_folder("demo") as temporary:
            Demo(temporary, number, runtime, click.echo).run()
    click.echo("\n" + "\n".join(next_steps(None if folder is None else folder.absolute())))


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
