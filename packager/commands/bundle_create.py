"""``edgepack bundle create``"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.bundle.tar import blob_name
from edgepack.errors import IncompatibleError, NotFoundError, UsageError
from edgepack.host.commands import INPUT, Choice, StreamOrPath
from edgepack.host.console import answer, human, note
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.reference import image_tag
from packager.agent_file.image import FILE, TAG
from packager.commands.options import common, offline, team_registry
from packager.commands.part_size import PartSize
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from edgepack.bundle.parts import Wanted
    from edgepack.bundle.receipt import Receipt
    from edgepack.bundle.write import BundleReport
    from edgepack.signing.keys import PrivateKey


@dataclass(frozen=True)
class Destination:
    """Where to write: a file, or a folder that is there or was written with a slash at its end."""

    path: Path
    is_folder: bool


class _Destination(StreamOrPath):
    """A file, or a folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Where to write."""
        path = super().convert(value, param, ctx)
        return Destination(path, path.is_dir() or str(value).endswith("/"))


@click.command("create")
@click.argument("tags", nargs=-1, metavar="TAG...")
@click.option(
    "-o",
    "destination",
    type=_Destination(Path("/dev/stdout")),
    required=True,
    metavar="FILE|FOLDER/",
    help="The bundle's file, or a folder, such as a stick's, for a file or parts that are named by the bundle.",
)
@click.option("--key", metavar="NAME", help="Sign with this key; without it a device needs --allow-unsigned.")
@click.option(
    "--since",
    type=INPUT,
    multiple=True,
    metavar="RECEIPT",
    help="Leave out what the device or site holds; of several receipts, what all of them hold.",
)
@click.option(
    "--part-size",
    type=PartSize(),
    metavar="SIZE",
    help="Write parts of at most this size, such as 3900MB, to the folder.  [default: one file, or what FAT32 takes]",
)
@click.option(
    "--only",
    type=INPUT,
    metavar="FILE",
    help="Write just the parts that FILE asks for, which edge-agent import --bring-me wrote; it names the images too.",
)
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
    destination: Destination,
    key: str | None,
    since: tuple[Path, ...],
    part_size: int | None,
    only: Path | None,
    platform: str | None,
    extras: tuple[str, ...],
    offline: bool,
    workspace: Workspace,
    output: str,
) -> None:
    """Write the images TAG... to a file, or to parts in a folder, that a device can import: signed, and no larger than
    the device needs."""
    from edgepack.bundle.receipt import Receipt
    from packager.images.search import check_documents

    wanted = None if platform is None else Platform.parse(platform)
    receipts = [_receipt(one, workspace) for one in since]
    receipt = Receipt.common(receipts)
    asked_for = None if only is None else _asked_for(only, tags, extras, since, platform)
    if asked_for is not None:
        part_size = asked_for.part_size
        wanted = None if asked_for.platform is None else Platform.parse(asked_for.platform)
        receipt = Receipt("-", None, frozenset(asked_for.omitted))
    if not tags and not extras and asked_for is None:
        raise click.UsageError("Missing argument 'TAG...'.")
    names = [*map(image_tag, tags)] if asked_for is None else [*asked_for.images]
    agent: tuple[tuple[Platform, Descriptor], ...] = ()
    if extras:
        asked = wanted or (receipt.platform if receipt is not None else None)
        agent = _add_agent(workspace, names, asked, is_offline=offline)
        names.append(TAG)
    images = [{"tag": name, "digest": str(workspace.image(name).digest)} for name in names]
    check_documents(workspace.store, [workspace.image(one["tag"]) for one in images])
    private = None if key is None else workspace.keys.get(key)
    report = _write(workspace, names, destination, private, receipt, wanted, part_size, asked_for)
    path = report.path
    value = {
        "path": str(path),
        "parts": [str(one) for one in report.parts],
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
        written=report.parts,
    )  # fmt: skip
    if len(report.parts) > 1:
        note(f"written in {len(report.parts)} parts to {path.parent}: edge-agent import {path.parent}")
    for held in receipts:
        if held.free_bytes is not None and held.free_bytes < report.bytes:
            note(
                f"{held.device} had {human(held.free_bytes)} free when its receipt was written, and this brings "
                f"{human(report.bytes)}"
            )
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


def _write(
    workspace: Workspace,
    names: list[str],
    destination: Destination,
    key: PrivateKey | None,
    receipt: Receipt | None,
    platform: Platform | None,
    part_size: int | None,
    only: Wanted | None,
) -> BundleReport:
    from edgepack.bundle.write import write_bundle
    from edgepack.bundle.write_parts import write_to_folder

    if destination.is_folder:
        return write_to_folder(
            workspace.store, names, destination.path, key=key, receipt=receipt, platform=platform,
            part_size=part_size, only=only, docker=True,
        )  # fmt: skip
    if part_size is not None:
        raise UsageError(
            "parts are written to a folder", where=destination.path, hint=f"write it as: -o {destination.path.parent}/"
        )
    return write_bundle(
        workspace.store, names, destination.path, key=key, receipt=receipt, platform=platform, docker=True
    )


def _asked_for(
    only: Path, tags: tuple[str, ...], extras: tuple[str, ...], since: tuple[Path, ...], platform: str | None
) -> Wanted:
    from edgepack.bundle.parts import Wanted

    if tags or extras or since or platform is not None:
        raise UsageError(
            "says itself which images, platform and receipts the bundle was made of", where="--only",
            hint="leave out TAG, --with, --since and --platform",
        )  # fmt: skip
    return Wanted.from_bytes(_small(only, "file", "edge-agent import --bring-me FILE writes one"), only)


def _receipt(path: Path, workspace: Workspace) -> Receipt:
    """The receipt at ``path``; one by a device of this workspace must be signed by that device."""
    from edgepack.bundle.receipt import PAYLOAD_TYPE, Receipt, is_signed
    from edgepack.signing import envelope

    data = _small(path, "receipt", "write one with: edge-agent receipt")
    receipt = Receipt.from_bytes(data, path)
    if is_signed(data, path) and not workspace.is_unused:
        known = [one.key for one in workspace.devices.list() if one.name == receipt.device]
        if known:
            envelope.verify(data, PAYLOAD_TYPE, known, where=path)
    return receipt


def _small(path: Path, what: str, hint: str) -> bytes:
    """What ``path`` holds, which may be a pipe."""
    try:
        with path.open("rb") as file:
            return file.read(LIMITS.bundle_list_bytes)
    except FileNotFoundError:
        raise NotFoundError(f"there is no such {what}", where=path, hint=hint) from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint=hint) from error
