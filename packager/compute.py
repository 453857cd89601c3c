"""Compute targets, as ``azureml.core.compute`` has them."""

from __future__ import annotations

from packager.exceptions import ComputeTargetException
from packager.sdk.compute import AksCompute, ComputeTarget

__all__ = ["AksCompute", "ComputeTarget", "ComputeTargetException"]
