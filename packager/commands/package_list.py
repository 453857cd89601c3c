"""``edgepack package list``"""

from __future__ import annotations

from typing import Any

import click

from edgepack.errors import EdgepackError
from edgepack.host.console import answer, human, note
from edgepack.oci import mediatypes
from edgepack.oci.digest import Digest
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("list")
@common
def command(workspace: Workspace, output: str) -> None:
    """List the images of the workspace."""
    from packager.images.inspect import views

    found: list[dict[str, Any]] = []
    tags = {} if workspace.is_unused else workspace.store.tags()
    for tag, root in sorted(tags.items()):
        try:
            images = views(workspace.store, root)
        except EdgepackError as error:
            note(f"{tag} cannot be read: {error}")  # which must not hide the others
            continue
        for image in images:
            found.append(
                {
                    "tag": tag,
                    "digest": str(root.digest),
                    "platform": str(image.platform),
                    "size": image.descriptor.size + sum(blob.size for blob in image.manifest.blobs),
                    "layers": len(image.manifest.layers),
                    "sbom": bool(workspace.store.referrers(image.descriptor.digest, mediatypes.CYCLONEDX)),
                    "signed": bool(workspace.store.referrers(root.digest, mediatypes.STATEMENT_ARTIFACT)),
                }
            )
    if not tags:
        note("no images yet; build one with: edgepack package build -m NAME -t TAG")
    answer(
        output,
        found,
        [{**row, "size": human(row["size"]), "digest": Digest.parse(row["digest"]).short} for row in found],
    )
