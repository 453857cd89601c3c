"""The workstation: model registry, layer plan, image output, bundles; the ``edgepack`` command and the Python API.

::

    import packager

    ws = packager.Workspace()
    model = ws.models.register("churn", "model.joblib", tags={"area": "sales"})
    image = ws.build(model)

Scripts written for Azure's SDK find its classes under the same names: ``azureml.core`` becomes ``packager``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packager.sdk.compute import ComputeTarget
    from packager.sdk.container_registry import ContainerRegistry
    from packager.sdk.environment import Environment
    from packager.sdk.image import Image
    from packager.sdk.inference import InferenceConfig
    from packager.sdk.model import Model
    from packager.sdk.resources import ResourceConfiguration
    from packager.sdk.webservice.kinds import Webservice
    from packager.sdk.workspace import Experiment, Run, Workspace

# What is imported when it is first asked for: the command line uses none of it.
_HOMES = {
    "ComputeTarget": "packager.sdk.compute",
    "ContainerRegistry": "packager.sdk.container_registry",
    "Environment": "packager.sdk.environment",
    "Experiment": "packager.sdk.workspace",
    "Image": "packager.sdk.image",
    "InferenceConfig": "packager.sdk.inference",
    "Model": "packager.sdk.model",
    "ResourceConfiguration": "packager.sdk.resources",
    "Run": "packager.sdk.workspace",
    "Webservice": "packager.sdk.webservice.kinds",
    "Workspace": "packager.sdk.workspace",
}
__all__ = [
    "ComputeTarget",
    "ContainerRegistry",
    "Environment",
    "Experiment",
    "Image",
    "InferenceConfig",
    "Model",
    "ResourceConfiguration",
    "Run",
    "Webservice",
    "Workspace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
