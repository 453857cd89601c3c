"""The schemas of decorated functions, by their qualified names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ._swagger import ALL_VERSIONS, Schema


@dataclass
class Entry:
    """The schemas of one function; None where it has no such decorator."""

    input_schema: Schema | None = None
    output_schema: Schema | None = None
    versions: list[str] = field(default_factory=lambda: list(ALL_VERSIONS))

    def narrow(self, versions: list[str]) -> None:
        """Keep only the OpenAPI versions that ``versions`` has too."""
        self.versions = [version for version in self.versions if version in versions]


ENTRIES: dict[str, Entry] = {}


def key_of(func: Callable[..., Any]) -> str:
    """The function's module and qualified name."""
    return f"{func.__module__}.{func.__qualname__}"
