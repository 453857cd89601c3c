"""``edgepack bundle serve``"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import click

from edgepack.errors import NotFoundError
from edgepack.host.commands import Number
from edgepack.host.console import answer, note
from edgepack.signing.keys import PublicKey
from packager.commands.bundle_options import opened, reading
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("serve")
@click.option("--host", metavar="ADDRESS", default="0.0.0.0", show_default=True, help="Where it answers.")  # noqa: S104
@click.option("--port", type=Number(0, 65535, kind=int), default=5000, show_default=True, help="0 for a free one.")
@reading
@common
def command(
    paths: tuple[Path, ...],
    trusted: list[PublicKey],
    allow_unsigned: bool,
    host: str,
    port: int,
    workspace: Workspace,
    output: str,
) -> None:
    """Offer the bundles at PATH on the local network as a read-only registry, until it is interrupted.

    Engines and agents pull from it by plain HTTP, and check what they get by its digest; nothing is copied or unpacked.
    Whoever reaches the port can read every image.
    """
    from edgepack.bundle.served import ServedBundles
    from edgepack.oci.serve import serve

    with opened(paths, trusted, allow_unsigned) as bundles:
        absent = [(one, one.missing) for one in bundles if one.missing]
        for one, missing in absent:
            raise NotFoundError(
                f"lacks {', '.join(map(str, missing))} of its parts", where=one.where,
                hint="put all parts into one folder",
            )  # fmt: skip
        served = ServedBundles(bundles)
        with serve(served, host, int(port), allow_remote=True) as found:
            name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104
            at = f"{name}:{found}"
            images = [{"image": f"{at}/{tag}", "digest": str(image.digest)} for tag, image in served.tags().items()]
            rows = [{**one, "digest": one["digest"][7:19]} for one in images]
            answer(output, {"address": at, "images": images}, rows)
            note(f"serving at {at} by plain HTTP; end it with Ctrl-C")
            _until_interrupted()
            note("ended")


def _until_interrupted() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
