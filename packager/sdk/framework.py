"""``Model.Framework``: what a model was trained with."""

from __future__ import annotations

from typing import ClassVar


class FrameworkNames:
    """What a model was trained with, by Azure's names."""

    CUSTOM: ClassVar[str] = "Custom"
    TENSORFLOW: ClassVar[str] = "TensorFlow"
    SCIKITLEARN: ClassVar[str] = "ScikitLearn"
    ONNX: ClassVar[str] = "Onnx"
    TFKERAS: ClassVar[str] = "TfKeras"
    PYTORCH: ClassVar[str] = "PyTorch"
    MULTI: ClassVar[str] = "Multi"
