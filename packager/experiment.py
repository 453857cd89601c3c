"""``Experiment``, as ``azureml.core.experiment`` has it."""

from __future__ import annotations

from packager.sdk.workspace import Experiment

__all__ = ["Experiment"]
