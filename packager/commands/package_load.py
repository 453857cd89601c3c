"""``edgepack package load``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, human
from edgepack.oci.reference import image_tag
from packager.bars import bars
from packager.commands.options import creating, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace


@click.command("load")
@click.argument("source")
@click.option("-t", "--tag", help="Its name in the workspace.  [default: its name there]")
@registries
@creating
def command(source: str, tag: str | None, access: Access, workspace: Workspace, output: str) -> None:
    """Load an image from SOURCE: an archive's file, an OCI layout's folder, or docker-daemon:NAME."""
    from packager.places.table import find_file

    place = find_file("/dev/stdin" if source == "-" else source, access)
    with bars() as progress:
        loaded = place.load(workspace.store, None if tag is None else image_tag(tag), progress)
    value = {"tag": loaded.tag, "digest": str(loaded.root.digest), "moved_bytes": loaded.report.moved_bytes}
    answer(
        output, value, [{**value, "digest": loaded.root.digest.short, "moved_bytes": human(loaded.report.moved_bytes)}]
    )
