"""``AutoMLRun``, as ``azureml.train.automl.run`` has it."""

from __future__ import annotations

from packager.sdk.automl import AutoMLRun

__all__ = ["AutoMLRun"]
