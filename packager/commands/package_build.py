"""``edgepack package build``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.errors import UsageError
from edgepack.host.console import answer, human, note
from edgepack.names import ModelRef
from edgepack.oci.reference import image_tag
from packager.commands.options import creating, offline, platforms_of, registries
from packager.places.access import Access
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.images.build import Build
    from packager.images.plan import LayerPlan
    from packager.inference.entry_script import EntryScript


@click.command("build")
@click.option("-m", "--model", "models", multiple=True, metavar="NAME[:VERSION]", help="A model; may be given again.")
@click.option("--entry-script", metavar="FILE", help="A score.py with init() and run(); it opens the models itself.")
@click.option(
    "--source-directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Ship this whole folder; --entry-script is relative to it.",
)  # fmt: skip
@click.option(
    "--ic", "configuration", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="An inference configuration: entry script, source directory and environment.",
)  # fmt: skip
@click.option("-t", "--tag", required=True, help="Name of the image, such as churn:1.")
@click.option("--platform", "platforms", metavar="P[,P]", help="linux/amd64, linux/arm64.  [default: this machine's]")
@click.option("--base", metavar="REF", help="A base image: a recipe, oci:DIR, docker-archive:FILE, or a reference.")
@click.option("--keep", multiple=True, metavar="RULE", help="Switch off a rule that leaves files of wheels out.")
@click.option("--extra", "extras", multiple=True, metavar="NAME", help="What the server is to have besides: images.")
@click.option(
    "--service-config", "service", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Settings of the server (workers, limits, collection, auth and others), as in service.json.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the layers; build nothing.")
@offline
@registries
@creating
def command(
    models: tuple[str, ...],
    entry_script: str | None,
    source_directory: Path | None,
    configuration: Path | None,
    tag: str,
    platforms: str | None,
    base: str | None,
    keep: tuple[str, ...],
    extras: tuple[str, ...],
    service: Path | None,
    dry_run: bool,
    offline: bool,
    access: Access,
    workspace: Workspace,
    output: str,
) -> None:
    """Build an image that serves models over HTTP; needs no container engine and no image registry."""
    from packager.images.build import BuildOptions
    from packager.inference.configuration import InferenceConfiguration
    from packager.inference.configuration_file import read_configuration
    from packager.inference.service_settings import read_settings
    from packager.layers.rules import rules_without
    from packager.models.conversion import is_unchecked
    from packager.wheels.trim import RULES

    refs = [ModelRef.parse(model) for model in models]
    wanted = platforms_of(platforms)
    if source_directory is not None and entry_script is None:
        raise UsageError("is given without a script", where="--source-directory", hint="name one by --entry-script")
    if configuration is not None and entry_script is not None:
        raise UsageError(
            "is given beside --ic, whose file names the script", where="--entry-script", hint="keep one of the two"
        )
    inference = InferenceConfiguration(entry_script, source_directory) if entry_script is not None else None
    if configuration is not None:
        inference = read_configuration(configuration, workspace.environments)
    script = inference.script() if inference is not None else None
    settings = None if service is None else read_settings(service)
    options = BuildOptions(base, offline, script, rules_without(RULES, keep), access, extras, settings)
    tag = image_tag(tag)
    if dry_run:
        plans = workspace.builder.plan(refs, wanted, options)
        answer(output, [_plan_json(plan) for plan in plans], [row for plan in plans for row in _plan_rows(plan)])
        _note_left_out(script)
        return
    built = workspace.builder.build(refs, tag, wanted, options)
    answer(output, build_json(built), _rows(built))
    for model in filter(is_unchecked, map(workspace.models.get, refs if script is None else ())):
        note(f"{model.id} is served as it is; to have it checked first: edgepack model convert -m {model.id}")
    _note_left_out(script)
    for image in built.images:
        note(
            f"{built.tag} for {image.platform}: {human(image.size)} compressed, {human(image.unpacked_size)} unpacked, "
            f"{human(image.new_bytes)} new, {image.seconds:.1f} s"
        )


def _note_left_out(script: EntryScript | None) -> None:
    from packager.layers.folder import left_out_text

    if script is not None and script.left_out:
        note(left_out_text(script.left_out))


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


def _rows(built: Build) -> list[dict[str, object]]:
    return [
        {
            "platform": image.platform,
            "layer": layer.kind,
            "holds": layer.title,
            "size": human(layer.size),
            "unpacked": human(layer.unpacked_size),
            "new": layer.new,
            "digest": layer.digest.short,
        }
        for image in built.images
        for layer in image.layers
    ]


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
