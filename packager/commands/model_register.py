"""``edgepack model register``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.host.console import answer, human
from packager.commands.options import creating, pairs
from packager.models.model import Framework, Model
from packager.workspace import Workspace


@click.command("register")
@click.option("-n", "--name", required=True, help="Name of the model.")
@click.option("-p", "--path", type=click.Path(path_type=Path), required=True, help="The model's file or folder.")
@click.option(
    "--framework",
    help="ScikitLearn, TensorFlow, PyTorch, Onnx or Custom.  [default: by the file's name, else its content]",
)
@click.option("--framework-version", help="Version of the framework that trained it.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="A tag; may be given many times.")
@click.option(
    "--sample-input",
    type=click.Path(path_type=Path),
    help="A file of example inputs: .csv, .json, .npy, .npz, .parquet.",
)
@creating
def command(
    name: str,
    path: Path,
    framework: str | None,
    framework_version: str | None,
    tags: tuple[str, ...],
    sample_input: Path | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Register a model under a name; the next version of that name is given to it."""
    model = workspace.models.register(
        name,
        path,
        framework=None if framework is None else Framework.parse(framework),
        framework_version=framework_version,
        tags=pairs(tags, "--tag"),
        sample_input=sample_input,
    )
    answer(output, model_json(model), [model_row(model)])


def model_json(model: Model) -> dict[str, object]:
    """A model as the JSON interface shows it."""
    return {
        "id": model.id,
        "name": model.name,
        "version": model.version,
        "framework": model.framework.value,
        "framework_version": model.framework_version,
        "created": model.created,
        "tags": dict(model.tags),
        "size": model.size,
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in model.files],
        "layers": [{"digest": str(layer.descriptor.digest), "size": layer.descriptor.size} for layer in model.layers],
        "converted": model.conversion is not None,
    }


def model_row(model: Model) -> dict[str, object]:
    """A model as a line of a table."""
    return {
        "model": model.id,
        "framework": " ".join(filter(None, (model.framework.value, model.framework_version))),
        "files": len(model.files),
        "size": human(model.size),
        "created": model.created,
        "tags": " ".join(f"{key}={value}" for key, value in sorted(model.tags.items())) or None,
    }
