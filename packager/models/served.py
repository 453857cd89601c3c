"""A model as an image serves it."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.oci.layer import Layer


@dataclass(frozen=True)
class ServedModel:
    """A model as an image has it: its layers, and the file below its version's folder; "" where a script opens it."""

    name: str
    version: int
    file: str
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """``name:version``."""
        return f"{self.name}:{self.version}"
