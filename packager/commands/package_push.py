"""``edgepack package push``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, human, note
from edgepack.oci.reference import image_tag
from packager.bars import bars
from packager.commands.options import common, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace


@click.command("push")
@click.argument("tag")
@click.argument("destination", required=False)
@registries
@common
def command(tag: str, destination: str | None, access: Access, workspace: Workspace, output: str) -> None:
    """Push the image TAG to DESTINATION, moving only the missing blobs.

    DESTINATION is a registry's reference, oci:DIR, oci-archive:FILE, docker-archive:FILE (the two are the same file)
    or docker-daemon:NAME; without it, the registry that TAG names.
    """
    from packager.places.table import find_destination

    tag = image_tag(tag)
    root = workspace.image(tag)
    place = find_destination(destination or tag, access)
    with bars() as progress:
        report = place.send(workspace.store, tag, root, progress)
    value = {
        "tag": tag,
        "digest": str(root.digest),
        "destination": destination or tag,
        "moved_bytes": report.moved_bytes,
        "present_bytes": report.present_bytes,
    }
    answer(output, value, [{**value, "moved_bytes": human(report.moved_bytes),
                            "present_bytes": human(report.present_bytes)}], written=[place.file])  # fmt: skip
    note(f"{human(report.moved_bytes)} moved")
