"""``edgepack base build``"""

from __future__ import annotations

from typing import Any

import click

from edgepack.host.console import answer, human
from edgepack.oci.descriptor import Platform
from packager.bars import bars
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("build")
@click.argument("recipe", required=False)
@click.option("--platform", "platforms", metavar="P[,P]", help="linux/amd64, linux/arm64.  [default: this machine's]")
@click.option(
    "--mirror",
    "mirrors",
    metavar="URL",
    multiple=True,
    help="Debian's archive, such as http://mirror.example/debian; may be given several times.  "
    "[default: EDGEPACK_DEBIAN_MIRRORS, or the mirrors of this machine's apt and deb.debian.org]",
)
@click.option("--locked", is_flag=True, help="Without effect: the versions are always those of the recipe's lock.")
@click.option("--again", is_flag=True, help="Build even when it was done before.")
@common
def command(
    recipe: str | None,
    platforms: str | None,
    mirrors: tuple[str, ...],
    locked: bool,
    again: bool,
    workspace: Workspace,
    output: str,
) -> None:
    """Build the base image RECIPE out of Debian's packages, with no container engine and no image registry."""
    from packager.bases.debian.sources import check_mirrors
    from packager.bases.find import DEFAULT_RECIPE

    check_mirrors(mirrors, "--mirror")  # also where the base is here already, and no mirror is asked
    name = recipe or DEFAULT_RECIPE
    wanted = [Platform.parse(text) for text in platforms.split(",")] if platforms else [Platform.host()]
    rows: list[dict[str, Any]] = []
    for platform in wanted:
        with bars() as progress:
            descriptor = workspace.bases.build(name, platform, rebuild=again, mirrors=mirrors, progress=progress)
        layer = workspace.bases.store.manifest(descriptor).layers[0]
        unpacked = int(layer.annotations["io.edgepack.layer.unpacked-size"])
        rows.append({"recipe": name, "platform": str(platform), "digest": descriptor.digest,
                     "size": layer.size, "unpacked_size": unpacked})  # fmt: skip
    value = [{**row, "digest": str(row["digest"])} for row in rows]
    rows = [{**row, "digest": row["digest"].short} for row in rows]
    answer(output, value, [{**row, "size": human(row["size"]), "unpacked_size": human(row["unpacked_size"])}
                          for row in rows])  # fmt: skip
