"""The names of frameworks: the one that each has here, and those by which people call it."""

from __future__ import annotations

# What an environment is made for, and the framework that its models are registered as.
FRAMEWORK_OF = {
    "sklearn": "ScikitLearn",
    "boosters": "ScikitLearn",
    "companions": "ScikitLearn",
    "tensorflow": "TensorFlow",
    "pytorch": "PyTorch",
    "onnx": "Onnx",
}
# Letters alone, in lower case. Libraries are called by their package's name or what it is imported as.
_CALLED = {
    "sklearn": "sklearn scikitlearn scikit skl skops joblib",
    "boosters": "boosters booster xgboost xgb lightgbm lgbm lgb catboost cb",
    "companions": "companions imblearn imbalancedlearn categoryencoders featureengine",
    "tensorflow": "tensorflow tf tf2 tensorflow2 tensorflowcpu keras savedmodel",
    "pytorch": "pytorch torch torchscript lightning pytorchlightning",
    "onnx": "onnx onnxruntime ort",
}
_FAMILIES = {name: family for family, names in _CALLED.items() for name in names.split()}


def family_of(name: str) -> str | None:
    """Which of ``FRAMEWORK_OF`` is called ``name``, whatever its capitals, hyphens and underscores; None for none."""
    return _FAMILIES.get("".join(letter for letter in name.lower() if letter.isalnum()))


def known_names() -> list[str]:
    """Every name that ``family_of`` has."""
    return sorted(_FAMILIES)
