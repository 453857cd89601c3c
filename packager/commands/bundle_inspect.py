"""``edgepack bundle inspect``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.host.console import answer, human, note
from edgepack.signing.keys import PublicKey
from packager.commands.bundle_options import opened, reading
from packager.commands.options import common
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from edgepack.bundle.blobs import BundleSet


@click.command("inspect")
@reading
@common
def command(
    paths: tuple[Path, ...], trusted: list[PublicKey], allow_unsigned: bool, workspace: Workspace, output: str
) -> None:
    """Show what bundles bring: images, for which platform, which parts there are and which are missing.

    PATH is a bundle, a part, or a folder of them. Only their signed lists are read; see edgepack bundle verify.
    """
    with opened(paths, trusted, allow_unsigned) as found:
        values = [_value(one) for one in found]
    rows = [
        {
            "image": image["name"], "digest": image["digest"][7:19], "platform": value["platform"] or "all",
            "size": human(value["bytes"]), "left_out": human(value["omitted_bytes"]),
            "parts": f"{len(value['files'])} of {value['of']}",
        }
        for value in values
        for image in value["images"]
    ]  # fmt: skip
    answer(output, values, rows)
    for value in values:
        if value["missing"]:
            note(f"bundle {value['bundle'][7:19]} lacks {_numbers(value['missing'])} of {value['of']}")


def _numbers(missing: list[int]) -> str:
    from edgepack.bundle.parts import numbers

    return numbers(missing)


def _value(one: BundleSet) -> dict[str, Any]:
    from edgepack.bundle.parts import identity

    contents, part = one.contents, one.files[0].list.part
    return {
        "bundle": str(identity(contents)),
        "images": [{"name": image.name, "digest": str(image.descriptor.digest)} for image in contents.images],
        "platform": None if contents.platform is None else str(contents.platform),
        "signed_by": sorted({key for file in one.files for key in file.key_ids}),
        "blobs": len(contents.blobs),
        "bytes": sum(blob.size for blob in contents.blobs),
        "omitted_bytes": sum(blob.size for blob in contents.omitted),
        "omitted": [str(blob.digest) for blob in contents.omitted],
        "of": 1 if part is None else part.of,
        "files": [
            {
                "path": str(file.path), "number": 1 if file.list.part is None else file.list.part.number,
                "size": file.path.stat().st_size,
            }
            for file in one.files
        ],
        "missing": list(one.missing),
    }  # fmt: skip
