"""What ``edgepack package build`` and ``package save`` are given: models, a script with what it needs, platforms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from edgepack.errors import UsageError
from edgepack.host.console import note
from edgepack.names import ModelRef
from edgepack.oci.descriptor import Platform
from packager.commands.options import offline, platforms_of, registries
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.images.build import BuildOptions
    from packager.inference.configuration import InferenceConfiguration
    from packager.inference.entry_script import EntryScript
    from packager.services.service import Source

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class ImageInputs:
    """Models, platforms and options of an image, as a user typed them."""

    refs: tuple[ModelRef, ...]
    platforms: tuple[Platform, ...]
    options: BuildOptions
    inference: InferenceConfiguration | None = None

    @property
    def source(self) -> Source | None:
        """Where the entry script is on this workstation, if there is one."""
        from packager.services.service import Source

        return None if self.inference is None else Source.of(self.inference)

    @property
    def script(self) -> EntryScript | None:
        """The entry script, if there is one."""
        return self.options.script

    def note_left_out(self) -> None:
        """Say which files of the source directory stay out."""
        from packager.layers.folder import left_out_text

        if self.script is not None and self.script.left_out:
            note(left_out_text(self.script.left_out))

    def note_unchecked(self, workspace: Workspace) -> None:
        """Say which models were never converted, and are served as they are."""
        from packager.models.conversion import is_unchecked

        for model in filter(is_unchecked, map(workspace.models.get, self.refs if self.script is None else ())):
            note(f"{model.id} is served as it is; to have it checked first: edgepack model convert -m {model.id}")


def image_inputs(function: _F) -> _F:
    """Add the options; the command gets ``inputs``, an ``ImageInputs``, beside its ``workspace``."""

    @functools.wraps(function)
    def command(*args: Any, workspace: Workspace, **typed: Any) -> Any:
        given = {name: typed.pop(name) for name in _NAMES}
        return function(*args, workspace=workspace, inputs=_inputs(workspace, **given), **typed)

    for option in reversed(_OPTIONS):
        command = option(command)
    return cast(_F, command)


_OPTIONS = (
    click.option(
        "-m", "--model", "models", multiple=True, metavar="NAME[:VERSION]", help="A model; may be given again."
    ),
    click.option(
        "--entry-script", metavar="FILE", help="A score.py with init() and run(); it opens the models itself."
    ),
    click.option(
        "--source-directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="Ship this whole folder; --entry-script is relative to it.",
    ),
    click.option(
        "--ic", "configuration", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
        help="An inference configuration: entry script, source directory and environment.",
    ),
    click.option(
        "--environment", metavar="NAME[:V]|FILE",
        help="What the script imports: a registered environment, a conda file or pip's requirements.",
    ),
    click.option(
        "--find-links", multiple=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="A folder of wheels; may be given again.",
    ),
    click.option(
        "--lock", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
        help="Take exactly the wheels of this lock (pip's form, with hashes).",
    ),
    click.option(
        "--upgrade", is_flag=True, help="Solve the environment anew, in place of the lock that the workspace keeps."
    ),
    click.option(
        "--dockerfile-steps", "steps", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
        help="Further lines of a Dockerfile, executed once the packages are there; build then needs --engine.",
    ),
    click.option(
        "--platform", "platforms", metavar="P[,P]", help="linux/amd64, linux/arm64.  [default: this machine's]"
    ),
    click.option(
        "--base", metavar="REF", help="A base image: a recipe, oci:DIR, docker-archive:FILE, or a reference."
    ),
    click.option(
        "--without-library", "without_libraries", multiple=True, metavar="NAME",
        help="Build although no file of the image is this shared library, such as libGL.so.1; may be given again.",
    ),
    click.option("--keep", multiple=True, metavar="RULE", help="Switch off a rule that leaves files of wheels out."),
    click.option(
        "--extra", "extras", multiple=True, metavar="NAME", help="What the server is to have besides: images."
    ),
    click.option(
        "--service-config", "service", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
        help="Settings of the server (workers, limits, collection, auth and others), as in service.json.",
    ),
    offline,
    registries,
)  # fmt: skip
_NAMES = (
    "models", "entry_script", "source_directory", "configuration", "environment", "find_links", "lock", "upgrade",
    "steps", "platforms", "base", "keep", "extras", "service", "without_libraries", "offline", "access",
)  # fmt: skip


def _inputs(
    workspace: Workspace,
    *,
    models: tuple[str, ...],
    entry_script: str | None,
    source_directory: Path | None,
    configuration: Path | None,
    environment: str | None,
    find_links: tuple[Path, ...],
    steps: Path | None,
    lock: Path | None,
    upgrade: bool,
    platforms: str | None,
    base: str | None,
    keep: tuple[str, ...],
    extras: tuple[str, ...],
    service: Path | None,
    without_libraries: tuple[str, ...],
    **shared: Any,
) -> ImageInputs:
    from packager.contexts.steps import read_steps
    from packager.environments.named import find_environment
    from packager.environments.server_packages import kept_packages
    from packager.images.build import BuildOptions
    from packager.inference.configuration import InferenceConfiguration
    from packager.inference.configuration_file import read_configuration
    from packager.inference.service_settings import read_settings
    from packager.layers.rules import rules_without
    from packager.wheels.trim import RULES

    refs = tuple(ModelRef.parse(model) for model in models)
    wanted = tuple(platforms_of(platforms, has_wheelhouse=lock is not None and bool(find_links)))
    if lock is not None and upgrade:
        raise UsageError(
            "is given beside --lock, which fixes every version", where="--upgrade", hint="keep one of them"
        )
    said = {
        "--entry-script": entry_script, "--source-directory": source_directory, "--environment": environment,
        "--dockerfile-steps": steps,
    }  # fmt: skip
    for option in (option for option, value in said.items() if configuration is not None and value is not None):
        raise UsageError("is given beside --ic, whose file says that", where=option, hint="keep one of the two")
    if source_directory is not None and entry_script is None:
        raise UsageError("is given without a script", where="--source-directory", hint="name one by --entry-script")
    inference = InferenceConfiguration(entry_script, source_directory) if entry_script is not None else None
    if configuration is not None:
        inference = read_configuration(configuration, lambda ref: workspace.environments.get(ref))
    packages, rules = kept_packages(keep)
    settings = None if service is None else read_settings(service)
    options = BuildOptions(
        base, shared["offline"], None, rules_without(RULES, rules), shared["access"], extras, settings,
        find_links=tuple(folder.absolute() for folder in find_links), keep_packages=packages,
        lock=None if lock is None else lock.absolute(), upgrade=upgrade,
        without_libraries=frozenset(without_libraries),
    )  # fmt: skip
    if inference is not None:
        options = options.of(inference)
    if environment is not None:
        options = replace(options, environment=find_environment(environment, workspace.environments))
    if steps is not None:
        options = replace(options, steps=read_steps(steps))
    return ImageInputs(refs, wanted, options, inference)
