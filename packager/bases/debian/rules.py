"""Named rules for what stays out of a base image, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from packager.layers.rules import path_pattern


@dataclass(frozen=True)
class Rule:
    """Leaves out the paths that match ``paths`` and do not match ``keep``, and whole packages by their names.

    Patterns are those of ``path_pattern``, relative to the root of the layer.
    """

    name: str
    reason: str
    paths: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def leaves_out(self, path: str) -> bool:
        """Whether ``path`` stays out by this rule."""
        return bool(self._paths.fullmatch(path)) and not self._keep.fullmatch(path)

    @cached_property
    def _paths(self) -> re.Pattern[str]:
        return path_pattern(self.paths)

    @cached_property
    def _keep(self) -> re.Pattern[str]:
        return path_pattern(self.keep)


@dataclass(frozen=True)
class Rules:
    """Rules in the order in which they are asked; the first that leaves a path out is the one that is named."""

    rules: tuple[Rule, ...] = ()

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def of_path(self, path: str) -> Rule | None:
        """The rule that leaves ``path`` out, or ``None`` when it stays."""
        return next((rule for rule in self.rules if rule.leaves_out(path)), None)

    def of_package(self, package: str) -> Rule | None:
        """The rule that leaves the whole package out, or ``None``."""
        return next((rule for rule in self.rules if package in rule.packages), None)
