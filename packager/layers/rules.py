"""Named rules for what stays out of layers: what their patterns mean, and how a rule is switched off by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

from edgepack.errors import UsageError
from edgepack.nearness import did_you_mean


class NamedRule(Protocol):
    """A rule that can be switched off."""

    @property
    def name(self) -> str:
        """Its name, which no other rule beside it has."""


_R = TypeVar("_R", bound=NamedRule)


def rules_without(rules: Iterable[_R], names: Iterable[str]) -> tuple[_R, ...]:
    """The ``rules`` but those named; raises ``UsageError`` for a name that none of them has."""
    listing, off = tuple(rules), set(names)
    known = [rule.name for rule in listing]
    if unknown := sorted(off.difference(known)):
        hint = did_you_mean(unknown[0], known, f"the rules are {', '.join(known)}")
        raise UsageError(f"no rule is named {', '.join(unknown)}", hint=hint)
    return tuple(rule for rule in listing if rule.name not in off)


def path_pattern(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression that fully matches the paths that any of ``patterns`` matches; without any, no path.

    As in a ``.gitignore``: ``*`` and ``?`` stay within one folder, ``**/`` is any number of folders, none among them,
    a final ``/**`` everything below a folder, and ``[0-9]`` a set of characters.
    """
    return re.compile("|".join(_expression(pattern) for pattern in patterns) or r"(?!)", re.DOTALL)


def _expression(pattern: str) -> str:
    """A pattern as a regular expression; with ``fnmatch`` a ``*`` would cross folders."""
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        pieces.get(piece) or (piece if piece.startswith("[") and len(piece) > 1 else re.escape(piece))
        for piece in re.findall(r"\*\*/|\*\*|\*|\?|\[[^]/]+\]|.", pattern, re.DOTALL)
    )
