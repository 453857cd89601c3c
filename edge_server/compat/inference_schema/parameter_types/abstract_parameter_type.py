"""The base class of parameter types; a script may derive its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from edge_server.compat.inference_schema._swagger import Described, versions_of


class AbstractParameterType(Described):
    """A type that is known by a sample, ``sample_input``."""

    def __init__(self, sample_input: Any) -> None:
        self.sample_input = sample_input
        self.sample_data_type = type(sample_input)

    @abstractmethod
    def deserialize_input(self, input_data: Any) -> Any:
        """Convert parsed JSON to the sample's type; ValueError when it does not fit."""

    def supported_versions(self) -> list[str]:
        """The OpenAPI versions that can describe the sample."""
        return versions_of(self.input_to_swagger().get("example"))
