"""``CondaDependencies``, as ``azureml.core.conda_dependencies`` has it."""

from __future__ import annotations

from packager.sdk.conda_dependencies import CondaDependencies

__all__ = ["CondaDependencies"]
