"""``edgepack package save``"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.console import answer, human, note
from edgepack.oci.descriptor import Platform
from packager.commands.image_inputs import ImageInputs, image_inputs
from packager.commands.options import creating
from packager.workspaces.workspace import Workspace


@click.command("save")
@click.argument("tag", required=False)
@image_inputs
@click.option(
    "-o", "--output-directory", "folder", required=True, type=click.Path(path_type=Path), metavar="DIR",
    help="A new or empty folder.",
)  # fmt: skip
@click.option(
    "--base-registry", metavar="REGISTRY/REPOSITORY",
    help="Push the base there, and name it in the Dockerfile.  [default: its files are in the folder]",
)  # fmt: skip
@creating
def command(
    tag: str | None, folder: Path, base_registry: str | None, inputs: ImageInputs, workspace: Workspace, output: str
) -> None:
    """Write a Dockerfile with all that it needs, to be built by Docker or Podman; no step of it uses a network.

    An image that is built already is written to a file by: edgepack package push TAG docker-archive:FILE
    """
    from packager.contexts.save import save_contexts

    if tag is not None:
        raise UsageError(
            "a Dockerfile is written of models and scripts, not of an image", where=tag,
            hint=f"name them by -m and --entry-script, or write the image to a file: "
            f"edgepack package push {tag} docker-archive:FILE",
        )  # fmt: skip
    saved = save_contexts(
        workspace.builder, inputs.refs, inputs.platforms, inputs.options, folder, base_registry=base_registry
    )
    values = [
        {
            "folder": str(one.folder),
            "platform": str(one.platform),
            "base": one.base,
            "files": one.written.files,
            "size": one.written.size,
        }
        for one in saved
    ]
    rows = [{**value, "base": value["base"] or "inside", "size": human(one.written.size)}
            for value, one in zip(values, saved, strict=True)]  # fmt: skip
    answer(output, values, rows)
    inputs.note_unchecked(workspace)
    inputs.note_left_out()
    for one in saved:
        platform = f"--platform {one.platform} " if one.platform != Platform.host() else ""
        note(f"build it with: docker build --network=none {platform}-t NAME:TAG {shlex.quote(str(one.folder))}")
