"""``Workspace``, as ``azureml.core.workspace`` has it."""

from __future__ import annotations

from packager.sdk.workspace import Workspace

__all__ = ["Workspace"]
