"""``edgepack bundle receipt``"""

from __future__ import annotations

import socket
from pathlib import Path

import click

from edgepack.host.commands import OUTPUT
from edgepack.host.console import note
from edgepack.oci.descriptor import Platform
from packager.commands.options import common, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace


@click.command("receipt")
@click.argument("references", nargs=-1, metavar="[REFERENCE...]")
@click.option("-o", "--out", "path", type=OUTPUT, help="The file.  [default: stdout]")
@click.option("--name", metavar="NAME", help="What to call the site.  [default: the registry, or this machine]")
@click.option("--platform", metavar="P", help="Its devices are all of this platform, such as linux/arm64.")
@click.option("--key", metavar="KEY", help="Sign it with this key.")
@registries
@common
def command(
    references: tuple[str, ...],
    path: Path | None,
    name: str | None,
    platform: str | None,
    key: str | None,
    access: Access,
    workspace: Workspace,
    output: str,
) -> None:
    """Write what this side holds, so that a bundle for it can leave it out: edgepack bundle create --since FILE.

    REFERENCE is an image in a site's registry, or a repository, for all of its tags; without one it is the workspace.
    """
    from edgepack.bundle.receipt import Receipt
    from edgepack.host.files import BY_UMASK, atomic_write
    from packager.places.mirror import held

    runs = None if platform is None else Platform.parse(platform)
    if references:
        site = name or references[0].partition("/")[0]
        receipt = Receipt(site, runs, held(references, access))
    else:
        receipt = Receipt.of_store(workspace.store, name or socket.gethostname() or "workspace", runs)
    data = receipt.to_bytes() if key is None else receipt.signed(workspace.keys.get(key))
    if path is None:
        click.echo(data.decode())
    else:
        atomic_write(path, data, BY_UMASK)
    note(f"{receipt.device} holds {len(receipt.blobs)} blobs")
