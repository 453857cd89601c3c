"""Named rules for what stays out of a base image, each with its reason, each to be switched off by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from edgepack.errors import UsageError


@dataclass(frozen=True)
class Rule:
    """Leaves out the paths that match ``paths`` and do not match ``keep``, and whole packages by their names.

    Patterns are relative to the root of the layer. ``*`` and ``?`` stay within one folder, ``[0-9]`` is a set,
    and a final ``/**`` means everything below that folder.
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

    def without(self, names: Iterable[str]) -> Rules:
        """The rules but for these; raises ``UsageError`` for a name that no rule has."""
        off = set(names)
        known = [rule.name for rule in self.rules]
        if unknown := sorted(off.difference(known)):
            raise UsageError(f"no rule is named {', '.join(unknown)}", hint=f"the rules are {', '.join(known)}")
        return Rules(tuple(rule for rule in self.rules if rule.name not in off))


def path_pattern(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression that fully matches the paths that any of the shell patterns matches; none match no path."""
    return re.compile("|".join(_expression(pattern) for pattern in patterns) or r"(?!)", re.DOTALL)


def _expression(pattern: str) -> str:
    """A shell pattern as a regular expression; ``fnmatch`` would let ``*`` cross folders."""
    pieces = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        pieces.get(piece) or (piece if piece.startswith("[") and len(piece) > 1 else re.escape(piece))
        for piece in re.findall(r"\*\*|\*|\?|\[[^]/]+\]|.", pattern, re.DOTALL)
    )
