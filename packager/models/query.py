"""Which models of the registry are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packager.models.model import Framework


@dataclass(frozen=True)
class Label:
    """A tag or property that a model must have; without a value, any value will do."""

    key: str
    value: str | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` has it."""
        return self.key in labels and self.value in (None, labels[self.key])


@dataclass(frozen=True)
class ModelQuery:
    """Models that meet every one of these; ``latest`` leaves of those the newest version of each name."""

    name: str | None = None
    tags: tuple[Label, ...] = ()
    properties: tuple[Label, ...] = ()
    framework: Framework | None = None
    run: str | None = None
    latest: bool = False

    def matches(self, tags: Mapping[str, str], properties: Mapping[str, str]) -> bool:
        """Whether a row with these labels is meant."""
        pairs = ((self.tags, tags), (self.properties, properties))
        return all(label.matches(labels) for wanted, labels in pairs for label in wanted)
