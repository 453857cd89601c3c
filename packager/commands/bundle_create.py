"""``edgepack bundle create``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.commands import INPUT, OUTPUT
from edgepack.host.console import answer, human, note
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Platform
from edgepack.oci.reference import image_tag
from packager.commands.options import common, team_registry
from packager.workspaces.workspace import Workspace


@click.command("create")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.option("-o", "path", type=OUTPUT, required=True, help="The bundle's file.")
@click.option("--key", metavar="NAME", help="Sign with this key; without it a device needs --allow-unsigned.")
@click.option("--since", type=INPUT, metavar="RECEIPT", help="Leave out what the device holds.")
@click.option("--platform", metavar="P", help="Carry only what devices of this platform need, such as linux/arm64.")
@team_registry
@common
def command(
    tags: tuple[str, ...],
    path: Path,
    key: str | None,
    since: Path | None,
    platform: str | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Write the images TAG... to one file that a device can import, signed, and no larger than the device needs."""
    from edgepack.bundle.receipt import Receipt
    from edgepack.bundle.write import write_bundle
    from packager.images.search import check_documents

    wanted = None if platform is None else Platform.parse(platform)
    receipt = None
    if since is not None:
        receipt = Receipt.from_bytes(_receipt(since), since)
    images = [{"tag": name, "digest": str(workspace.image(name).digest)} for name in map(image_tag, tags)]
    check_documents(workspace.store, [workspace.image(one["tag"]) for one in images])
    private = None if key is None else workspace.keys.get(key)
    report = write_bundle(
        workspace.store, [one["tag"] for one in images], path, key=private, receipt=receipt, platform=wanted
    )
    value = {
        "path": str(path),
        "size": report.size,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "omitted_bytes": report.omitted_bytes,
        "images": images,
    }
    answer(
        output,
        value,
        [
            {"bundle": path, "size": human(report.size), "left_out": human(report.omitted_bytes), "image": one["tag"],
             "digest": one["digest"]}
            for one in images
        ],
        written=[path],
    )  # fmt: skip
    if key is None:
        note("the bundle is not signed; a device imports it only with --allow-unsigned")


def _receipt(path: Path) -> bytes:
    """What ``path`` holds, which may be a pipe."""
    hint = "write one with: edge-agent receipt"
    try:
        with path.open("rb") as file:
            return file.read(LIMITS.bundle_list_bytes)
    except FileNotFoundError:
        raise NotFoundError("there is no such receipt", where=path, hint=hint) from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint=hint) from error
