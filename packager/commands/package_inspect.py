"""``edgepack package inspect``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgepack.host.console import answer, human, note
from packager.commands.options import common, offline, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from edgepack.oci.descriptor import Descriptor
    from edgepack.oci.sources import BlobSource


@click.command("inspect")
@click.argument("image")
@click.option("--sbom", "kind", flag_value="sbom", help="Show what is in it: its SBOM (CycloneDX).")
@click.option("--provenance", "kind", flag_value="provenance", help="Show what it was built of, and how (SLSA).")
@offline
@registries
@common
def command(image: str, kind: str | None, offline: bool, access: Access, workspace: Workspace, output: str) -> None:
    """Show IMAGE: a tag of the workspace, oci:DIR, oci-archive:FILE, docker-daemon:NAME or a registry's reference."""
    from edgepack.oci.available import Available
    from packager.images.inspect import signers, views
    from packager.places.table import find_source

    with find_source(image, workspace.store, access).open(offline=offline) as (source, root):
        if kind is not None:
            _show(source, root, kind, image, output)
            return
        found = views(source, root)
        if isinstance(source, Available):
            note(f"{image} names more than it holds; not there: {source.absent_names}")
        signed_by = signers(workspace.store, root, workspace.keys.list())
    value = {
        "digest": str(root.digest),
        "signed_by": list(signed_by),
        "platforms": [
            {
                "platform": str(view.platform),
                "digest": str(view.descriptor.digest),
                "size": view.descriptor.size + sum(blob.size for blob in view.manifest.blobs),
                "entrypoint": list(view.config.entrypoint),
                "user": view.config.user,
                "exposed_ports": list(view.config.exposed_ports),
                "labels": dict(view.config.labels),
                "annotations": dict(view.manifest.annotations),
                "layers": [
                    {
                        "digest": str(layer.digest),
                        "diff_id": str(diff_id),
                        "kind": layer.kind,
                        "size": layer.size,
                        "media_type": layer.media_type,
                        "annotations": dict(layer.annotations),
                    }
                    for layer, diff_id in zip(view.manifest.layers, view.config.diff_ids, strict=True)
                ],
            }
            for view in found
        ],
    }
    rows = [
        {
            "platform": view.platform,
            "layer": layer.kind,
            "holds": layer.annotations.get("org.opencontainers.image.title"),
            "size": human(layer.size),
            "digest": layer.digest.short,
        }
        for view in found
        for layer in view.manifest.layers
    ]
    answer(output, value, rows)
    if output == "table":
        note(f"{root.digest}, signed by {', '.join(signed_by) or 'no key of this workspace'}")


def _show(source: BlobSource, root: Descriptor, kind: str, image: str, output: str) -> None:
    """A document that is attached; as JSON the document itself, of an image for several platforms all by platform."""
    from packager.images.documents import documents, provenance_rows, sbom_rows

    found = documents(source, root, kind, image)
    rows = [row for one in found for row in (sbom_rows(one) if kind == "sbom" else provenance_rows(one))]
    several = {str(one.platform): one.value for one in found}
    if len(several) < len(found):
        note(f"{image} has more than one; the last of each platform is shown as JSON")
    answer(output, next(iter(several.values())) if len(several) == 1 else several, rows)
    if output == "table" and not all(one.is_ours for one in found):
        note("some of it was attached by another tool")
