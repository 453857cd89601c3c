"""``ResourceConfiguration``: what a service of a model is to have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packager.models.model import Resources


class ResourceConfiguration:
    """Processors, GiB of memory and graphics cards."""

    def __init__(self, cpu: float | None = None, memory_in_gb: float | None = None, gpu: int | None = None) -> None:
        self.cpu = cpu
        self.memory_in_gb = memory_in_gb
        self.gpu = gpu

    def __repr__(self) -> str:
        return f"ResourceConfiguration(cpu={self.cpu}, memory_in_gb={self.memory_in_gb}, gpu={self.gpu})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResourceConfiguration) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self.cpu, self.memory_in_gb, self.gpu))

    def serialize(self) -> dict[str, Any]:
        """The resources by the names of Azure's files."""
        return {"cpu": self.cpu, "memoryInGB": self.memory_in_gb, "gpu": self.gpu}

    @staticmethod
    def deserialize(payload_obj: Mapping[str, Any] | None) -> ResourceConfiguration | None:
        """The resources that ``serialize`` gave."""
        if payload_obj is None:
            return None
        return ResourceConfiguration(*(payload_obj.get(key) for key in ("cpu", "memoryInGB", "gpu")))

    @property
    def _resources(self) -> Resources:
        return Resources(self.cpu, self.memory_in_gb, self.gpu)


def resources_of(configuration: ResourceConfiguration | None) -> Resources:
    """The registry's form of a configuration."""
    return Resources() if configuration is None else configuration._resources


def configuration_of(resources: Resources) -> ResourceConfiguration | None:
    """The configuration of a model, ``None`` where it has none."""
    return ResourceConfiguration(resources.cpu, resources.memory_gb, resources.gpu) if resources else None
