"""``edgepack package push``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from edgepack.oci.reference import image_tag
from packager.bars import bars
from packager.commands.layer_tables import CUT, moved_layers, moved_rows, moved_words
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
        "layers": moved_layers(workspace.store, root, report),
    }
    answer(output, value, moved_rows(workspace.store, root, report), written=[place.file], cut=CUT)
    note(f"pushed {tag} to {value['destination']}: {moved_words(report)}")
    note(f"its digest is {root.digest}")
