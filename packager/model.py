"""``Model``, ``ModelPackage`` and ``InferenceConfig``, as ``azureml.core.model`` has them."""

from __future__ import annotations

from packager.sdk.inference import InferenceConfig
from packager.sdk.model import Model
from packager.sdk.package import ModelPackage

__all__ = ["InferenceConfig", "Model", "ModelPackage"]
