"""What an update of a service says, by the arguments of scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgepack.names import ModelRef
from packager.sdk.owner import Owner
from packager.services.plan import Change
from packager.services.service import Source

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig
    from packager.sdk.webservice.deployment import DeploymentConfiguration


def change_of(
    workspace: Owner,
    models: Sequence[Any] | None,
    inference_config: InferenceConfig | None,
    configuration: DeploymentConfiguration | None,
) -> Change:
    """What an update says."""
    from packager.images.build import BuildOptions

    refs = None
    if models is not None:
        given: Sequence[Any] = models if isinstance(models, list | tuple) else [models]
        refs = tuple(ModelRef.parse(one if isinstance(one, str) else one.id) for one in given)
    options = None
    if inference_config is not None:
        options = BuildOptions(offline=workspace.parts.is_offline).of(inference_config.to_configuration())
    said = None if configuration is None else configuration.to_configuration()
    return Change(refs, options, source_of(inference_config), said)


def source_of(config: InferenceConfig | None) -> Source | None:
    """Where the script of ``config`` is on this workstation."""
    return None if config is None else Source.of(config.to_configuration())
