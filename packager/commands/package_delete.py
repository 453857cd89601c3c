"""``edgepack package delete``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("delete")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@common
def command(tags: tuple[str, ...], workspace: Workspace, output: str) -> None:
    """Remove images from the workspace, by their tags; all of them or, where one is not there, none.

    Disk is given back by: edgepack workspace gc
    """
    found = {tag: workspace.image(tag) for tag in tags}
    workspace.store.untag(tags)
    value = [{"tag": tag, "digest": str(image.digest)} for tag, image in found.items()]
    answer(output, value, [{"tag": tag, "digest": image.digest.short} for tag, image in found.items()])
