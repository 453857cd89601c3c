"""``Model.deploy``: a service of models, by the contract's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgepack.errors import EdgepackError, IncompatibleError, NotFoundError, UsageError
from packager.sdk.arguments import labels_of
from packager.sdk.owner import Owner
from packager.sdk.packaging import package_inputs
from packager.sdk.webservice.change import source_of
from packager.sdk.webservice.deployment import DeploymentConfiguration
from packager.sdk.webservice.kinds import Webservice
from packager.services.deploying import Services
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
    inputs = package_inputs(workspace, models, inference_config)
    request = Request(
        name, inputs.refs, inputs.options, LOCAL if configuration is None else configuration.to_configuration(),
        getattr(target, "name", None) or (None if configuration is None else configuration.where),
        source_of(inference_config),
        getattr(configuration, "description", None),
        labels_of(getattr(configuration, "tags", None), "tags"),
        labels_of(getattr(configuration, "properties", None), "properties"),
    )  # fmt: skip
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
