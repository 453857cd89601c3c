"""``Model.deploy``: a service of models, by the contract's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgepack.errors import EdgepackError, IncompatibleError, NotFoundError, UsageError
from packager.sdk.arguments import labels_of
from packager.sdk.compute import ComputeTarget
from packager.sdk.owner import Owner
from packager.sdk.packaging import package_inputs
from packager.sdk.webservice.change import source_of
from packager.sdk.webservice.deployment import DeploymentConfiguration
from packager.sdk.webservice.endpoint_configuration import EndpointConfiguration
from packager.sdk.webservice.kinds import AksEndpoint, Webservice
from packager.services.configuration.rules import Configuration
from packager.services.configuration.values import ComputeType
from packager.services.deploying import Services
from packager.services.endpoint_deploying import Endpoints, Settings, Version
from packager.services.plan import LOCAL, Request

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig


def deploy(
    workspace: Owner,
    name: str,
    models: Sequence[Any],
    inference_config: InferenceConfig | None,
    configuration: DeploymentConfiguration | None,
    target: object,
    overwrite: bool,
) -> Webservice:
    """Deploy a service; see ``Model.deploy``."""
    from packager.bars import bars

    if configuration is not None and not isinstance(configuration, DeploymentConfiguration):
        raise UsageError(
            f"is a {type(configuration).__name__}", where="deployment_config",
            hint="write LocalWebservice.deploy_configuration(port=8890)",
        )  # fmt: skip
    where = _place(target, configuration)
    if configuration is None and isinstance(target, ComputeTarget):
        configuration = DeploymentConfiguration("aks", {})
    inputs = package_inputs(workspace, models, inference_config)
    request = Request(
        name, inputs.refs, inputs.options, _configuration_on(configuration, where), where,
        source_of(inference_config),
        getattr(configuration, "description", None),
        labels_of(getattr(configuration, "tags", None), "tags"),
        labels_of(getattr(configuration, "properties", None), "properties"),
    )  # fmt: skip
    if isinstance(configuration, EndpointConfiguration):
        return _deploy_endpoint(workspace, request, configuration, overwrite)
    services = Services(workspace.parts)
    try:
        with bars() as progress:
            found = services.deploy(request, overwrite=overwrite, progress=progress)
            return Webservice._of(workspace, found.service, seen=found.seen)
    except (UsageError, NotFoundError, IncompatibleError):
        raise  # what was asked for is wrong
    except EdgepackError as error:
        failed = services.find(name)
        if failed is None:
            raise
        return Webservice._of(workspace, failed, error)


def _place(target: object, configuration: DeploymentConfiguration | None) -> str | None:
    """The name of the target: a compute target, or a text; raises ``UsageError`` for anything else and for two."""
    said = None if configuration is None else configuration.where
    if target is None:
        return said
    name = target if isinstance(target, str) else getattr(target, "name", None)
    if not isinstance(name, str) or not name:
        raise UsageError(
            f"is a {type(target).__name__}", where="deployment_target", hint="give a ComputeTarget of the workspace"
        )
    if said not in (None, name):
        raise UsageError(
            f"is {name}, and the configuration's compute_target_name is {said}", where="deployment_target",
            hint="keep one of the two",
        )  # fmt: skip
    if isinstance(target, ComputeTarget) and configuration is not None and configuration.kind != "aks":
        raise UsageError(
            f"{name} is a cluster of Kubernetes", where="deployment_config",
            hint="write AksWebservice.deploy_configuration()",
        )  # fmt: skip
    return name


def _configuration_on(given: DeploymentConfiguration | None, where: str | None) -> Configuration:
    if isinstance(given, EndpointConfiguration):
        return given.configuration_on(ComputeType.LOCAL if where is None else ComputeType.DEVICE)
    return LOCAL if given is None else given.to_configuration()


def _deploy_endpoint(
    workspace: Owner, request: Request, configuration: EndpointConfiguration, overwrite: bool
) -> AksEndpoint:
    """Open an endpoint before its first version, which ``request`` is; ``overwrite`` is for one that is not there."""
    from packager.bars import bars

    endpoints, routing = Endpoints(workspace.parts), configuration.routing
    if overwrite and request.name in [one.name for one in endpoints.list()]:
        raise UsageError(
            "is not overwritten, since its versions would stop answering", where=f"endpoint {request.name}",
            hint="add a version by create_version, or delete the endpoint first",
        )  # fmt: skip
    settings = Settings(
        max_connections=routing.max_connections, queue_seconds=routing.queue_seconds,
        description=request.description, tags=request.tags or None, properties=request.properties or None,
    )  # fmt: skip
    version = Version(str(configuration.version_name), request, configuration.share)
    with bars() as progress:
        return AksEndpoint._deployed(workspace, endpoints.create(request.name, version, settings, progress))
