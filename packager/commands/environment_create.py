"""``edgepack environment create``"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.console import answer, note
from edgepack.names import EnvironmentRef, check_environment_name
from packager.commands.environment_views import environment_json, environment_row
from packager.commands.options import creating, pairs
from packager.environments.environment import Environment
from packager.environments.sources import Additions, from_base, from_file, from_mlflow, from_packages
from packager.workspaces.workspace import Workspace


@click.command("create")
@click.option("-n", "--name", required=True, help="Name of the environment.")
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), metavar="FILE",
    help="A conda file (.yml, .yaml), pip's requirements (.txt, .in), or an environment's JSON, Azure's too.",
)  # fmt: skip
@click.option("--mlflow", type=click.Path(path_type=Path), metavar="DIR", help="The folder of an MLflow model.")
@click.option("--package", "packages", multiple=True, metavar="P", help="A pip package, such as numpy>=2; repeatable.")
@click.option("--python", metavar="VERSION", help="Its Python, such as 3.11.  [default: as the file says, else 3.11]")
@click.option("--variable", "variables", multiple=True, metavar="K=V", help="An environment variable; repeatable.")
@click.option("--base-image", metavar="REF", help="An image to build on, which brings its own Python.")
@click.option(
    "--base-dockerfile", type=click.Path(path_type=Path), metavar="FILE", help="A Dockerfile of the image to build on."
)
@creating
def command(
    name: str,
    file: Path | None,
    mlflow: Path | None,
    packages: tuple[str, ...],
    python: str | None,
    variables: tuple[str, ...],
    base_image: str | None,
    base_dockerfile: Path | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Register an environment; the next version of its name, or the latest again where nothing changed."""
    from edgepack.trees.text_file import read_text
    from packager.environments.curated import check_not_curated

    check_not_curated(check_environment_name(name))
    dockerfile = None if base_dockerfile is None else read_text(base_dockerfile, "Dockerfile")
    given = pairs(variables, "--variable", "OMP_NUM_THREADS=1")
    found = _read(name, file, mlflow, Additions(python, packages, given, base_image, dockerfile))
    before = None
    if workspace.exists:
        with suppress(NotFoundError):
            before = workspace.environments.get(EnvironmentRef(name))
    made = workspace.environments.register(found)
    if made == before:
        note(f"{made.id} asks for the same already")
    answer(output, environment_json(made), [environment_row(made)])


def _read(name: str, file: Path | None, mlflow: Path | None, additions: Additions) -> Environment:
    if file is not None and mlflow is not None:
        raise UsageError("is given with --file", where="--mlflow", hint="give one of them")
    if file is not None:
        return from_file(file, name, additions)
    if mlflow is not None:
        return from_mlflow(mlflow, name, additions)
    if additions.base_image is not None or additions.base_dockerfile is not None:
        return from_base(name, additions)
    if additions.packages or additions.python is not None:
        return from_packages(name, additions=additions)
    raise UsageError(
        "an environment needs a file, packages or a base", hint="give -f, --package, --mlflow or --base-image"
    )
