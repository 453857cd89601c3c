"""``edgepack package verify``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.errors import NotFoundError, UsageError, VerificationError
from edgepack.host.console import answer, human, note
from edgepack.oci.reference import image_tag
from packager.commands.options import common, offline, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.images.rebuild import Rebuilt
    from packager.images.verify import Verification


@click.command("verify")
@click.argument("tag")
@click.option("--rebuild", "again", is_flag=True, help="Build it again, in a place of its own, and compare.")
@click.option(
    "--source-directory", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
    help="With --rebuild: take the code from this folder, and not from the image.",
)  # fmt: skip
@offline
@registries
@common
def command(
    tag: str,
    again: bool,
    source_directory: Path | None,
    offline: bool,
    access: Access,
    workspace: Workspace,
    output: str,
) -> None:
    """Check the image TAG: every blob is read again, what is attached to it, and the signatures.

    With --rebuild it is also built again, by its provenance and its lock, and the first layer and path that differ are
    named. Exit code 4 when anything is not what it should be.
    """
    from packager.images.verify import verify

    if source_directory is not None and not again:
        raise UsageError("is of use with --rebuild only", where="--source-directory", hint="add --rebuild")
    tag = image_tag(tag)
    workspace.is_offline = offline
    root = workspace.image(tag)
    checked = verify(workspace.store, root, workspace.keys.list())
    rebuilt: tuple[Rebuilt, ...] = ()
    if again and not checked.findings:
        from packager.images.rebuild import rebuild

        rebuilt = rebuild(
            workspace.builder, root, where=tag, offline=offline, access=access, source_directory=source_directory
        )
    value = _json(tag, str(root.digest), checked)
    if again:
        value["rebuilt"] = [_rebuilt_json(one) for one in rebuilt]
    answer(output, value, _rows(checked, rebuilt))
    signed = f"signed by {', '.join(checked.signed_by)}" if checked.signed_by else "signed by no key of this workspace"
    if checked.unknown_keys:
        signed += ", and by a key that is not in it"
    note(f"{tag}: {checked.blobs} blobs, {human(checked.size)}; {signed}")
    for one in rebuilt:
        for other in one.others:
            note(f"{one.platform}: {other}")
    if checked.findings:
        first = checked.findings[0]
        more = f", and {len(checked.findings) - 1} more" if len(checked.findings) > 1 else ""
        raise VerificationError(
            f"{first.where}: {first.what}{more}", where=tag, hint="fetch it again, or build it again"
        )
    _raise_for(tag, rebuilt)


def _raise_for(tag: str, rebuilt: tuple[Rebuilt, ...]) -> None:
    for one in rebuilt:
        if one.missing:
            raise NotFoundError(f"cannot be built again for {one.platform}: {one.missing}", where=tag)
    for one in rebuilt:
        if not one.is_same and one.difference is not None:
            path = f": /{one.difference.path}" if one.difference.path else ""
            raise VerificationError(
                f"is not what is built again for {one.platform}: {one.layer}{path} {one.difference.how}", where=tag,
                hint="see what differs; where a tool differs, build it again with that one" if one.others else None,
            )  # fmt: skip


def _json(tag: str, digest: str, checked: Verification) -> dict[str, Any]:
    return {
        "tag": tag,
        "digest": digest,
        "blobs": checked.blobs,
        "bytes": checked.size,
        "signed_by": list(checked.signed_by),
        "signed_by_unknown_key": checked.unknown_keys,
        "attachments": [
            {
                "subject": str(one.subject),
                "digest": str(one.digest),
                "kind": one.kind,
                "signed_by": list(one.signed_by),
            }
            for one in checked.attachments
        ],
        "findings": [{"where": one.where, "what": one.what} for one in checked.findings],
    }


def _rebuilt_json(one: Rebuilt) -> dict[str, Any]:
    return {
        "platform": str(one.platform),
        "digest": str(one.image),
        "rebuilt_digest": None if one.made is None else str(one.made),
        "same": one.is_same,
        "missing": one.missing or None,
        "other_tools": list(one.others),
        "layer": one.layer or None,
        "path": (one.difference.path or None) if one.difference else None,
        "difference": one.difference.how if one.difference else None,
    }


def _rows(checked: Verification, rebuilt: tuple[Rebuilt, ...]) -> list[dict[str, str]]:
    rows = [(f"{checked.blobs} blobs", "see below" if checked.findings else "as their names say")]
    for one in checked.attachments:
        signed = f"signed by {', '.join(one.signed_by)}" if one.signed_by else "not signed"
        rows.append((f"{one.kind} {one.digest.short}", f"attached, {signed}"))
    rows += [(one.where, one.what) for one in checked.findings]
    for made in rebuilt:
        same = "the same digest" if made.made == made.image else "the same content, by another compressor"
        result = same if made.is_same else "cannot be built" if made.missing else "another one"
        rows.append((f"built again for {made.platform}", result))
    return [{"what": what, "result": result} for what, result in rows]
