"""``Run``, as ``azureml.core.run`` has it."""

from __future__ import annotations

from packager.sdk.workspace import Run

__all__ = ["Run"]
