"""``edgepack model register``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.console import answer, note
from packager.bars import bars
from packager.commands.model_views import model_json, model_row
from packager.commands.options import creating, pairs, team_registry
from packager.models.details import ModelDetails
from packager.models.model import Framework, Resources
from packager.workspaces.workspace import Workspace


@click.command("register")
@click.option("-n", "--name", required=True, help="Name of the model.")
@click.option(
    "-p",
    "--path",
    "paths",
    type=click.Path(path_type=Path),
    multiple=True,
    help="The model's file or folder; may be given again for several files.",
)
@click.option(
    "--child-path",
    "child_paths",
    multiple=True,
    metavar="PATH",
    help="Only this file or folder of the folder --path, named below it; may be given again.",
)
@click.option(
    "--mlflow",
    metavar="URI",
    help="Instead: an MLflow model, its folder, models:/NAME/VERSION or runs:/RUN/PATH.",
)
@click.option(
    "--framework",
    help="ScikitLearn, TensorFlow, PyTorch, Onnx or Custom.  [default: by the file's name, else its content]",
)
@click.option("--framework-version", help="Version of the framework that trained it.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="A tag; may be given many times.")
@click.option("--property", "properties", multiple=True, metavar="K=V", help="A property, which never changes.")
@click.option("-d", "--description", help="What the model is for.")
@click.option("--cpu", type=float, help="Processors that a service of it is to have.")
@click.option("--memory", type=float, help="Memory that a service of it is to have, in GiB.")
@click.option("--gpu", type=int, help="Graphics cards that a service of it is to have.")
@click.option(
    "--sample-input",
    type=click.Path(path_type=Path),
    help="A file of example inputs: .csv, .json, .npy, .npz, .parquet.",
)
@click.option("--sample-output", type=click.Path(path_type=Path), help="A file of the outputs that belong to them.")
@click.option("--experiment", "--experiment-name", help="Experiment that it comes from.")
@click.option("--run", "--run-id", help="Run that made it.")
@team_registry
@creating
def command(
    name: str,
    paths: tuple[Path, ...],
    child_paths: tuple[str, ...],
    mlflow: str | None,
    framework: str | None,
    framework_version: str | None,
    tags: tuple[str, ...],
    properties: tuple[str, ...],
    description: str | None,
    cpu: float | None,
    memory: float | None,
    gpu: int | None,
    sample_input: Path | None,
    sample_output: Path | None,
    experiment: str | None,
    run: str | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Register a model under a name; the next version of that name is given to it."""
    details = ModelDetails(
        framework=None if framework is None else Framework.parse(framework),
        framework_version=framework_version,
        tags=pairs(tags, "--tag"),
        properties=pairs(properties, "--property"),
        description=description,
        resources=Resources(cpu, memory, gpu),
        experiment=experiment,
        run=run,
    )
    if (mlflow is None) == (not paths):
        raise UsageError("what to register is not said" if not paths else "a path and an MLflow model are given",
                         hint="give -p PATH, or --mlflow URI")  # fmt: skip
    if mlflow is not None:
        from packager.mlflow.register import register_mlflow

        if sample_input is not None or sample_output is not None:
            raise UsageError("comes with the MLflow model", where="a sample", hint="leave it out, or give -p")
        if child_paths:
            raise UsageError("chooses from a folder", where="--child-path", hint="leave it out, or give -p")
        with bars() as progress:
            model = register_mlflow(workspace.models, workspace.environments, name, mlflow, details, progress)
    else:
        with bars() as progress:
            model = workspace.models.register(
                name, paths, details, child_paths=child_paths, sample_input=sample_input, sample_output=sample_output,
                progress=progress,
            )  # fmt: skip
    answer(output, model_json(model), [model_row(model)])
    if framework is None and model.framework is Framework.CUSTOM:
        kept = f"{model.id} is kept as it is, for an entry script, since nothing shows what it was trained with"
        note(f"{kept}; to have it converted, register it with --framework")
