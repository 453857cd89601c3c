"""``edgepack package push``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgepack.errors import UsageError
from edgepack.host.commands import Choice
from edgepack.host.console import answer, note
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.reference import image_tag
from packager.bars import bars
from packager.commands.layer_tables import CUT, moved_layers, moved_rows, moved_words
from packager.commands.options import common, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.places.place import Place
    from packager.places.registry import Registry


@click.command("push")
@click.argument("tag")
@click.argument("destination", required=False)
@click.option("--sign", metavar="KEY", help="Attach a statement by this key, for devices and for cosign 3.")
@click.option(
    "--compat", type=Choice(["cosign2"]), help="With --sign: tag the statement as cosign before version 3 looks for it."
)
@registries
@common
def command(
    tag: str,
    destination: str | None,
    sign: str | None,
    compat: str | None,
    access: Access,
    workspace: Workspace,
    output: str,
) -> None:
    """Push the image TAG to DESTINATION, moving only the missing blobs.

    DESTINATION is a registry's reference, oci:DIR, oci-archive:FILE, docker-archive:FILE (the two are the same file)
    or docker-daemon:NAME; without it, the registry that TAG names.
    """
    from packager.places.table import find_destination

    tag = image_tag(tag)
    root = workspace.image(tag)
    place = find_destination(destination or tag, access)
    envelope = None if sign is None else _sign(workspace, root, tag, sign, place)
    tags = _older_form(place, envelope) if compat is not None else None
    with bars() as progress:
        report = place.send(workspace.store, tag, root, progress)
    if tags is not None and envelope is not None:
        tags.attest(workspace.store, root, envelope)
    value = {
        "tag": tag,
        "digest": str(root.digest),
        "destination": destination or tag,
        "signed_by": sign,
        "moved_bytes": report.moved_bytes,
        "present_bytes": report.present_bytes,
        "layers": moved_layers(workspace.store, root, report),
    }
    answer(output, value, moved_rows(workspace.store, root, report), written=[place.file], cut=CUT)
    note(f"pushed {tag} to {value['destination']}: {moved_words(report)}")
    note(f"its digest is {root.digest}")


def _sign(workspace: Workspace, root: Descriptor, tag: str, name: str, place: Place) -> bytes:
    """The statement on the image, which is attached to it here, for devices and for others' tools."""
    from edgepack.signing.sigstore import attach_bundle
    from edgepack.signing.statement import ensure_signed

    key = workspace.keys.get(name)
    if not place.carries_attachments:
        raise UsageError(
            "carries an image alone, without its signature", where=place.text,
            hint="push it to a registry or to oci:DIR, or make a bundle: edgepack bundle create",
        )  # fmt: skip
    envelope = ensure_signed(workspace.store, root, tag, key)
    attach_bundle(workspace.store, root, envelope)
    return envelope


def _older_form(place: Place, envelope: bytes | None) -> Registry:
    from packager.places.registry import Registry

    if envelope is None:
        raise UsageError("is of use with --sign only", where="--compat", hint="add --sign KEY")
    if not isinstance(place, Registry):
        raise UsageError("has no such tags", where=place.text, hint="push to a registry, or leave out --compat")
    return place
