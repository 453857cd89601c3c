"""``edgepack package list``"""

from __future__ import annotations

from typing import Any

import click

from edgepack.commandline import answer, human, note
from edgepack.oci import mediatypes
from edgepack.oci.copy import images
from packager.commands.options import common
from packager.workspace import Workspace


@click.command("list", short_help="List the images of the workspace.")
@common
def command(workspace: Workspace, output: str) -> None:
    """List the images of the workspace."""
    from packager.look import platform_of

    found: list[dict[str, Any]] = []
    for tag, root in sorted(workspace.store.tags().items()):
        for descriptor, manifest in images(workspace.store, root):
            found.append(
                {
                    "tag": tag,
                    "digest": str(root.digest),
                    "platform": str(platform_of(workspace.store, descriptor, manifest)),
                    "size": descriptor.size + sum(blob.size for blob in manifest.blobs),
                    "layers": len(manifest.layers),
                    "signed": bool(workspace.store.referrers(root.digest, mediatypes.STATEMENT_ARTIFACT)),
                }
            )
    if not found:
        note("no images yet; build one with: edgepack package build -m NAME -t TAG")
    answer(output, found, [{**row, "size": human(row["size"]), "digest": row["digest"][:19]} for row in found])
