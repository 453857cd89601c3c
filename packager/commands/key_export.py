"""``edgepack key export``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.host.commands import OUTPUT
from edgepack.host.console import answer
from edgepack.host.files import BY_UMASK, atomic_write
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("export")
@click.argument("name")
@click.option("-o", "path", type=OUTPUT, help="The file.  [default: stdout]")
@common
def command(name: str, path: Path | None, workspace: Workspace, output: str) -> None:
    """Write the public half of key NAME as PEM, for a device to trust."""
    pem = workspace.keys.export(name)
    if path is not None:
        atomic_write(path, pem, BY_UMASK)
    if output == "json":
        answer(output, {"name": name, "path": path and str(path), "pem": pem.decode()}, [], written=[path])
    elif path is None:
        click.echo(pem.decode(), nl=False)
