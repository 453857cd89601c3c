"""``edgepack package build``"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.errors import UsageError
from edgepack.host.commands import Choice
from edgepack.host.console import answer, human, note
from edgepack.oci.reference import image_tag
from packager.bars import bars
from packager.commands.image_inputs import ImageInputs, image_inputs
from packager.commands.layer_tables import CUT, built_rows
from packager.commands.options import creating
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from edgepack.host.progress import Progress
    from edgepack.oci.descriptor import Platform
    from packager.images.build import Build, Builder
    from packager.images.plan import LayerPlan
    from packager.images.write import BuiltImage

# What packager.places.docker_daemon, which is slow to import, speaks to.
ENGINES = ("docker", "podman")


@click.command("build")
@image_inputs
@click.option("-t", "--tag", required=True, help="Name of the image, such as churn:1.")
@click.option(
    "--write-lock", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the lock of all wheels here, for --lock or pip.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the layers; build nothing.")
@click.option("--engine", type=Choice(ENGINES), help="Let this engine execute further steps of a Dockerfile.")
@click.option("--allow-network", is_flag=True, help="Let these steps reach a network.")
@creating
def command(
    tag: str,
    write_lock: Path | None,
    dry_run: bool,
    engine: str | None,
    allow_network: bool,
    inputs: ImageInputs,
    workspace: Workspace,
    output: str,
) -> None:
    """Build an image that serves models over HTTP; needs no container engine and no image registry."""
    tag = image_tag(tag)
    if allow_network and engine is None:
        raise UsageError("is given without an engine", where="--allow-network", hint="add --engine docker")
    if allow_network and inputs.options.offline:
        raise UsageError("is given beside --offline", where="--allow-network", hint="keep one of the two")
    if dry_run:
        with bars() as progress:
            plans = workspace.builder.plan(inputs.refs, inputs.platforms, inputs.options, progress)
        _write(write_lock, {plan.platform: plan.lock for plan in plans})
        answer(output, [_plan_json(plan) for plan in plans], [row for plan in plans for row in _plan_rows(plan)])
        inputs.note_left_out()
        return
    with bars() as progress:
        built = _built(workspace.builder, tag, inputs, progress, engine, network=allow_network)
    _write(write_lock, {image.platform: _lock_of(image, workspace) for image in built.images})
    answer(output, build_json(built), built_rows(built), cut=CUT)
    inputs.note_unchecked(workspace)
    inputs.note_left_out()
    for image in built.images:
        note(
            f"{built.tag} for {image.platform}: {human(image.size)} compressed, {human(image.unpacked_size)} unpacked, "
            f"{human(image.new_bytes)} new, {image.seconds:.1f} s"
        )


def _built(
    builder: Builder, tag: str, inputs: ImageInputs, progress: Progress, engine: str | None, *, network: bool
) -> Build:
    if engine is None:
        return builder.build(inputs.refs, tag, inputs.platforms, inputs.options, progress)
    from packager.contexts.engine import EngineSteps, engine_base
    from packager.places.docker_daemon import Engine

    def log(line: str) -> None:
        click.echo(line, err=True)

    with engine_base(inputs.options, Engine(engine), log, network=network) as options:
        execute = EngineSteps(builder, options, Engine(engine), log, network=network)
        return builder.build(inputs.refs, tag, inputs.platforms, options, progress, execute)


def _lock_of(image: BuiltImage, workspace: Workspace) -> str:
    from edgepack.oci.attachments import attached
    from edgepack.oci.mediatypes import LOCK_ARTIFACT

    return attached(workspace.store, image.descriptor.digest, LOCK_ARTIFACT)[0].data.decode()


def _write(path: Path | None, locks: Mapping[Platform, str]) -> None:
    if path is not None:
        from edgepack.host.files import BY_UMASK, atomic_write
        from packager.wheels.lock_files import joined_lock

        atomic_write(path.absolute(), joined_lock(locks).encode("ascii"), BY_UMASK)
        note(f"wrote {path}, the lock of {', '.join(map(str, locks))}")


def build_json(built: Build) -> dict[str, object]:
    """A build as the JSON interface shows it; sizes in bytes."""
    return {
        "tag": built.tag,
        "digest": str(built.descriptor.digest),
        "platforms": [
            {
                "platform": str(image.platform),
                "digest": str(image.descriptor.digest),
                "size": image.size,
                "unpacked_size": image.unpacked_size,
                "new_bytes": image.new_bytes,
                "seconds": round(image.seconds, 3),
                "layers": [
                    {
                        "digest": str(layer.digest),
                        "kind": layer.kind,
                        "title": layer.title,
                        "size": layer.size,
                        "unpacked_size": layer.unpacked_size,
                        "new": layer.new,
                    }
                    for layer in image.layers
                ],
            }
            for image in built.images
        ],
    }


def _plan_json(plan: LayerPlan) -> dict[str, object]:
    base = [{"kind": "base", "title": plan.base.name, "size": layer.size} for layer in plan.base.manifest.layers]
    ours = [{"kind": layer.kind, "title": layer.title, "size": layer.planned_size} for layer in plan.layers]
    return {
        "platform": str(plan.platform),
        "layers": [*base, *ours],
        "entrypoint": list(plan.entrypoint),
        "user": plan.user,
        "env": dict(plan.env),
    }


def _plan_rows(plan: LayerPlan) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [
        {"platform": plan.platform, "layer": "base", "holds": plan.base.name, "input": human(layer.size)}
        for layer in plan.base.manifest.layers
    ]
    for layer in plan.layers:
        rows.append(
            {
                "platform": plan.platform,
                "layer": layer.kind,
                "holds": layer.title,
                "input": human(layer.planned_size),
            }
        )
    return rows
