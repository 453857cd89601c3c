"""``Model.package``: builds what a ``ModelPackage`` is about.

A package is built while ``Model.package`` runs: nothing goes on behind a script, and nothing is left half built when it
ends. What a user gave wrong is raised there; what fails later is recorded, and raised by ``wait_for_creation``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from edgepack.errors import EdgepackError, IncompatibleError, NotFoundError, UsageError
from edgepack.names import ModelRef
from packager.models.model import Framework, Model
from packager.sdk.owner import Owner
from packager.sdk.package import ModelPackage, PackageInputs
from packager.sdk.package_record import PackageRecord

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig
    from packager.sdk.package_log import PackageLog

# The first three are Azure's; PyTorch is ours.
NO_CODE = (Framework.ONNX, Framework.SCIKIT_LEARN, Framework.TENSORFLOW, Framework.PYTORCH)
_DEFAULT_NAME = "package"


def package(
    workspace: Owner,
    models: Sequence[Any],
    inference_config: InferenceConfig | None,
    generate_dockerfile: bool,
    image_name: str | None,
    image_label: str | None,
    platforms: Sequence[str] | None,
) -> ModelPackage:
    """Make a package; see ``Model.package``."""
    from packager.sdk.package_log import PackageLog

    log, identity = PackageLog(), uuid.uuid4().hex
    inputs = package_inputs(workspace, models, inference_config, platforms)
    name = _image_name(workspace, image_name, image_label)
    make = _planned if generate_dockerfile else _built
    cause = None
    with log.listening():
        try:
            location = make(workspace, inputs, name, log)
            record = PackageRecord("Succeeded", generate_dockerfile, location)
        except (UsageError, NotFoundError, IncompatibleError):
            raise  # what was asked for is wrong
        except EdgepackError as error:
            cause = error
            log.line(f"error: {error}")
            record = PackageRecord("Failed", generate_dockerfile, error=str(error))
    record.write(workspace.parts.root, identity, log.text)
    environment = None if inference_config is None else inference_config.environment
    return ModelPackage._made(workspace, identity, record, environment, inputs, cause)


def package_inputs(
    workspace: Owner, models: Sequence[Any], config: InferenceConfig | None, platforms: Sequence[str] | None = None
) -> PackageInputs:
    """What an image is made of; raises ``UsageError`` and ``NotFoundError`` for what is given wrong."""
    from edgepack.oci.descriptor import Platform
    from packager.images.build import BuildOptions

    _check_classes(workspace, models, config)
    if isinstance(models, str) or not isinstance(models, Sequence):
        raise UsageError("must be a list", where="models", hint="write [model]")
    refs = tuple(ModelRef.parse(model if isinstance(model, str) else model.id) for model in models)
    found = [workspace.parts.models.get(ref) for ref in refs]
    team = workspace.parts.config.team
    options = BuildOptions(offline=workspace.parts.is_offline)
    if team is not None:
        options = replace(options, access=team.access())
    if config is None:
        _check_no_code(found)
    else:
        options = options.of(config.to_configuration())
    wanted = tuple(map(Platform.parse, platforms)) if platforms else (Platform.host(),)
    return PackageInputs(tuple(model.ref for model in found), wanted, options)


def _check_classes(workspace: object, models: object, config: object) -> None:
    """Raise ``UsageError`` for an object of another class than ``Model.package`` is about."""
    from packager.sdk.inference import InferenceConfig

    if not hasattr(workspace, "parts"):
        kind = type(workspace).__name__
        raise UsageError(f"is a {kind} and not a Workspace", where="workspace", hint="write Workspace()")
    if config is not None and not isinstance(config, InferenceConfig):
        raise UsageError(
            f"is a {type(config).__name__} and not an InferenceConfig", where="inference_config",
            hint="write InferenceConfig('score.py', environment=…)",
        )  # fmt: skip
    for model in models if isinstance(models, Sequence) else ():
        if not isinstance(model, str) and not isinstance(getattr(model, "id", None), str):
            raise UsageError(
                f"has a {type(model).__name__}, which is no model", where="models", hint="give models or their names"
            )


def _check_no_code(models: Sequence[Model]) -> None:
    """Azure's rule, and its words: one model of a framework that needs no script."""
    if len(models) != 1:
        raise UsageError(
            "You must provide an InferenceConfig when deploying zero or multiple models", where="inference_config",
            hint="give one with an entry script, or package the models one by one",
        )  # fmt: skip
    if models[0].framework not in NO_CODE:
        raise UsageError(
            "You must provide an InferenceConfig when deploying a model with model_framework set to "
            f"{models[0].framework}. Default environments are only provided for these frameworks: "
            f"{', '.join(NO_CODE)}", where="inference_config", hint="give one with an entry script",
        )  # fmt: skip


def _image_name(workspace: Owner, name: str | None, label: str | None) -> str:
    """What the image is called: by default by the time, as Azure's are, and no name twice."""
    from edgepack.oci.reference import image_tag

    team = workspace.parts.config.team
    base = name or _DEFAULT_NAME
    if team is not None:
        base = team.repository(base).name
    if label is not None:
        return image_tag(f"{base}:{label}")
    now, tags = datetime.now(UTC), workspace.parts.store.tags()
    while (tag := image_tag(f"{base}:{now:%Y%m%d%H%M%S}")) in tags:
        now += timedelta(seconds=1)
    return tag


def _built(workspace: Owner, inputs: PackageInputs, name: str, log: PackageLog) -> str:
    from edgepack.host.console import human
    from packager.bars import bars
    from packager.places.table import find_destination

    parts = workspace.parts
    with bars() as shown:
        progress = log.beside(shown)
        execute = None
        if inputs.options.steps:  # which an engine executes, as Azure does
            from packager.contexts.engine import EngineSteps
            from packager.places.docker_daemon import Engine

            execute = EngineSteps(parts.builder, inputs.options, Engine("docker"), log.line)
        built = parts.builder.build(inputs.refs, name, inputs.platforms, inputs.options, progress, execute)
        for image in built.images:
            for layer in image.layers:
                state = "new" if layer.new else "cached"
                log.line(f"{layer.digest.short}  {layer.kind} {layer.title}: {human(layer.size)}, {state}")
            log.line(
                f"{name} for {image.platform}: {human(image.size)} compressed, {human(image.unpacked_size)} unpacked"
            )
        if parts.config.team is not None:
            find_destination(name, parts.config.team.access()).send(parts.store, name, built.descriptor, progress)
            log.line(f"pushed {name}")
    return name


def _planned(workspace: Owner, inputs: PackageInputs, name: str, log: PackageLog) -> None:
    """Find out that the files of a Dockerfile are to be had; they are written by ``save``."""
    from packager.bars import bars

    with bars() as shown:
        for plan in workspace.parts.builder.plan(inputs.refs, inputs.platforms, inputs.options, log.beside(shown)):
            for layer in plan.layers:
                log.line(f"{layer.kind} {layer.title}")
