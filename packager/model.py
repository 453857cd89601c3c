"""``Model``, as ``azureml.core.model`` has it."""

from __future__ import annotations

from packager.sdk.model import Model

__all__ = ["Model"]
