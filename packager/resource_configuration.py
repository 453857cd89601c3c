"""``ResourceConfiguration``, as ``azureml.core.resource_configuration`` has it."""

from __future__ import annotations

from packager.sdk.resources import ResourceConfiguration

__all__ = ["ResourceConfiguration"]
