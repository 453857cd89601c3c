"""``edgepack package pull``"""

from __future__ import annotations

import click

from edgepack.errors import UsageError
from edgepack.host.console import answer, note
from edgepack.oci.reference import image_tag
from packager.bars import bars
from packager.commands.layer_tables import CUT, moved_layers, moved_rows, moved_words
from packager.commands.options import creating, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace


@click.command("pull")
@click.argument("reference")
@click.option("-t", "--tag", help="Its name in the workspace.  [default: the reference]")
@registries
@creating
def command(reference: str, tag: str | None, access: Access, workspace: Workspace, output: str) -> None:
    """Pull the image REFERENCE and what is attached to it, verified while it streams; an interrupted pull resumes."""
    from packager.places.table import find_registry

    place = find_registry(reference, access)
    named, at, _ = place.name.partition("@")
    if at and tag is None and ":" not in named.rpartition("/")[2]:
        raise UsageError("names a digest and no tag", where=reference, hint="give a tag with --tag")
    name = image_tag(tag or named)
    with bars() as progress:
        loaded = place.load(workspace.store, name, progress)
    value = {
        "tag": name,
        "digest": str(loaded.root.digest),
        "moved_bytes": loaded.report.moved_bytes,
        "present_bytes": loaded.report.present_bytes,
        "layers": moved_layers(workspace.store, loaded.root, loaded.report),
    }
    answer(output, value, moved_rows(workspace.store, loaded.root, loaded.report), cut=CUT)
    note(f"pulled {name}: {moved_words(loaded.report)}")
    note(f"its digest is {loaded.root.digest}")
