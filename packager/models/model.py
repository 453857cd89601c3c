"""What is known of a registered model, as values; the registry in ``models`` keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from converters.source import frameworks
from edgepack.errors import UsageError
from edgepack.names import ModelRef
from edgepack.nearness import nearest
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.layer import Layer


class Framework(StrEnum):
    """What a model was trained with, by the names of Azure's SDK."""

    SCIKIT_LEARN = "ScikitLearn"
    TENSORFLOW = "TensorFlow"
    PYTORCH = "PyTorch"
    ONNX = "Onnx"
    CUSTOM = "Custom"

    @classmethod
    def parse(cls, text: str) -> Framework:
        """The framework that is called so, such as ``sklearn``, ``xgboost`` or ``torch``; raises ``UsageError``."""
        family = frameworks.family_of(text)
        if family is not None:
            return cls(frameworks.FRAMEWORK_OF[family])
        if text.strip().lower() == cls.CUSTOM.lower():
            return cls.CUSTOM
        meant = nearest(text, [*cls, *frameworks.known_names()])
        name = None if meant is None else cls.CUSTOM if meant == cls.CUSTOM else cls.parse(meant)
        hint = f"use one of {', '.join(cls)}"
        raise UsageError(
            f"{text!r} is not a known framework", where="--framework",
            hint=hint if name is None else f"did you mean {name.value!r}? {hint}",
        )  # fmt: skip


@dataclass(frozen=True)
class ModelFile:
    """One file of a registered model: its path below the version's folder, bytes, and sha256 (hex)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Sample:
    """A file of example inputs, kept in the store."""

    filename: str
    blob: Descriptor


@dataclass(frozen=True)
class Conversion:
    """The ONNX form of a model: the layers that go into images, and the parity report.

    ``key`` is a hash over what was converted and how, ``file`` the ONNX file below the version's folder; ``options``
    and ``sample`` are what it was asked with, so that it can be made again.
    """

    key: str
    layers: tuple[Layer, ...]
    report: Descriptor
    file: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sample: Sample | None = None


@dataclass(frozen=True)
class Resources:
    """What a service of the model is to be given: processors, GiB of memory, graphics cards."""

    cpu: float | None = None
    memory_gb: float | None = None
    gpu: int | None = None

    def __bool__(self) -> bool:
        return (self.cpu, self.memory_gb, self.gpu) != (None, None, None)


@dataclass(frozen=True)
class Model:
    """A registered model; ``created`` is in UTC, such as ``2025-01-31T12:00:00Z``.

    ``tags`` may change and ``properties`` only grow; ``experiment`` and ``run`` say what made it. ``sample`` and
    ``sample_output`` are files of example inputs and outputs.
    """

    name: str
    version: int
    framework: Framework
    framework_version: str | None
    created: str
    tags: Mapping[str, str]
    files: tuple[ModelFile, ...]
    layers: tuple[Layer, ...]
    sample: Sample | None
    conversion: Conversion | None
    properties: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None
    resources: Resources = field(default_factory=Resources)
    experiment: str | None = None
    run: str | None = None
    created_by: str | None = None
    sample_output: Sample | None = None

    @property
    def id(self) -> str:
        """``name:version``."""
        return f"{self.name}:{self.version}"

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def ref(self) -> ModelRef:
        """Its name and version."""
        return ModelRef(self.name, self.version)


def onnx_path(paths: Sequence[str], where: object) -> str:
    """The ONNX file among the files of an Onnx model: the one that is called so, or the only one.

    The others hold weights that the model keeps outside of itself. Raises ``UsageError`` when it is not clear.
    """
    named = [path for path in paths if path.lower().endswith(".onnx")]
    if len(named) == 1:
        return named[0]
    if not named and len(paths) == 1:
        return paths[0]
    raise UsageError(f"holds {len(named)} files that end in .onnx", where=where, hint="an Onnx model has exactly one")


def conversion_to_json(conversion: Conversion) -> dict[str, Any]:
    """A conversion as JSON keeps it."""
    return {
        "key": conversion.key,
        "layers": [layer.to_json() for layer in conversion.layers],
        "report": conversion.report.to_json(),
        "file": conversion.file,
        "options": dict(conversion.options),
        "sample": sample_to_json(conversion.sample),
    }


def conversion_from_json(value: Mapping[str, Any]) -> Conversion:
    """The conversion that ``conversion_to_json`` wrote."""
    layers = tuple(Layer.from_json(layer) for layer in value["layers"])
    report = Descriptor.from_json(value["report"])
    sample = sample_from_json(value.get("sample"))
    return Conversion(value["key"], layers, report, value["file"], value.get("options", {}), sample)


def sample_to_json(sample: Sample | None) -> dict[str, Any] | None:
    """A sample as JSON keeps it."""
    return None if sample is None else {"filename": sample.filename, "blob": sample.blob.to_json()}


def sample_from_json(value: Mapping[str, Any] | None) -> Sample | None:
    """The sample that ``sample_to_json`` wrote."""
    return None if value is None else Sample(value["filename"], Descriptor.from_json(value["blob"]))


def resources_to_json(resources: Resources) -> dict[str, float | int] | None:
    """Resources as JSON keeps them, by the names of Azure's files."""
    fields = {"cpu": resources.cpu, "memoryInGB": resources.memory_gb, "gpu": resources.gpu}
    return {key: value for key, value in fields.items() if value is not None} or None


def resources_from_json(value: Mapping[str, Any] | None) -> Resources:
    """The resources that ``resources_to_json`` wrote."""
    return Resources() if value is None else Resources(value.get("cpu"), value.get("memoryInGB"), value.get("gpu"))
