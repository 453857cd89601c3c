"""``edgepack bundle create``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.bundle.tar import blob_name
from edgepack.errors import IncompatibleError, NotFoundError, UsageError
from edgepack.host.commands import INPUT, OUTPUT, Choice
from edgepack.host.console import answer, human, note
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.reference import image_tag
from packager.agent_file.image import FILE, TAG
from packager.commands.options import common, offline, team_registry
from packager.workspaces.workspace import Workspace


@click.command("create")
@click.argument("tags", nargs=-1, metavar="TAG...")
@click.option("-o", "path", type=OUTPUT, required=True, help="The bundle's file.")
@click.option("--key", metavar="NAME", help="Sign with this key; without it a device needs --allow-unsigned.")
@click.option("--since", type=INPUT, metavar="RECEIPT", help="Leave out what the device holds.")
@click.option("--platform", metavar="P", help="Carry only what devices of this platform need, such as linux/arm64.")
@click.option(
    "--with",
    "extras",
    type=Choice(["agent"]),
    multiple=True,
    help="Put the agent of devices in too, as one file that needs nothing but Python; the first time its packages are"
    " downloaded.",
)
@offline
@team_registry
@common
def command(
    tags: tuple[str, ...],
    path: Path,
    key: str | None,
    since: Path | None,
    platform: str | None,
    extras: tuple[str, ...],
    offline: bool,
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
    if not tags and not extras:
        raise click.UsageError("Missing argument 'TAG...'.")
    names = [*map(image_tag, tags)]
    agent: tuple[tuple[Platform, Descriptor], ...] = ()
    if extras:
        asked = wanted or (receipt.platform if receipt is not None else None)
        agent = _add_agent(workspace, names, asked, is_offline=offline)
        names.append(TAG)
    images = [{"tag": name, "digest": str(workspace.image(name).digest)} for name in names]
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
        **({"agent": {str(one): blob_name(file.digest) for one, file in agent}} if extras else {}),
    }
    answer(
        output,
        value,
        [
            {"bundle": path, "size": human(report.size), "left_out": human(report.omitted_bytes), "image": one["tag"],
             "digest": Digest.parse(one["digest"]).short}
            for one in images
        ],
        written=[path],
    )  # fmt: skip
    for one, file in agent:
        note(f"the agent for {one}, on a device that has none yet: tar -xOf {path} {blob_name(file.digest)} > {FILE}")
    if key is None:
        note("the bundle is not signed; a device imports it only with --allow-unsigned")


def _add_agent(
    workspace: Workspace, tags: list[str], platform: Platform | None, *, is_offline: bool
) -> tuple[tuple[Platform, Descriptor], ...]:
    """Make the agent for ``platform``, or else for those of the images; its file for each of them."""
    from edgepack.oci.platforms import platform_images
    from packager.agent_file.image import PLATFORMS, agent_image
    from packager.bars import bars
    from packager.wheels.cache import WheelCache

    found = [one.platform for tag in tags for one in platform_images(workspace.store, workspace.image(tag))]
    fitting = [one for one in PLATFORMS if one in found]
    platforms = [platform] if platform is not None else fitting or ([] if tags else list(PLATFORMS))
    if not platforms:
        known = " and ".join(map(str, PLATFORMS))
        raise IncompatibleError(
            f"the agent is for {known}, and the images are for none of them", hint="leave out --with agent"
        )
    with bars() as progress:
        cache = WheelCache(workspace.cache)
        return agent_image(workspace.store, cache, platforms, offline=is_offline, progress=progress)


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
