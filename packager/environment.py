"""``Environment``, as ``azureml.core.environment`` has it."""

from __future__ import annotations

from packager.sdk.conda_dependencies import CondaDependencies
from packager.sdk.environment import Environment
from packager.sdk.environment_sections import DockerSection, PythonSection

__all__ = ["CondaDependencies", "DockerSection", "Environment", "PythonSection"]
