"""``ContainerRegistry``, as ``azureml.core.container_registry`` has it."""

from __future__ import annotations

from packager.sdk.container_registry import ContainerRegistry

__all__ = ["ContainerRegistry"]
