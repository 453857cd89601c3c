"""``.edgepackignore``: what stays out of an image, in the form of Docker's ``.dockerignore``; pure.

The rules are those of Docker's documentation ("Build context", ".dockerignore files") and of moby's ``patternmatcher``,
which it is held to by a test: the last line that matches decides; a line that matches a folder holds for all in it; a
pattern counts from the folder's root; ``**`` crosses folders; ``!`` brings back; a ``#`` at the start is a comment.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgepack.errors import InvalidDocumentError

IGNORE_FILE = ".edgepackignore"
_WILD = re.compile(r"[*?\[\\]")
# A set as Go's filepath.Match takes it: not empty, and hyphens only between two characters.
_SET = re.compile(r"\[(\^?)((?:(?:\\.|[^]\\-])(?:-(?:\\.|[^]\\-]))?)+)\]", re.DOTALL)


@dataclass(frozen=True)
class Pattern:
    """One line: ``text`` is cleaned, without the ``!`` that makes it one that ``brings_back``."""

    text: str
    brings_back: bool = False
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", re.compile(_expression(self.text), re.DOTALL))

    def matches(self, path: str) -> bool:
        """Whether ``path``, relative to the folder, or one of the folders that it is in, matches."""
        parts = path.split("/")
        return any(self._compiled.fullmatch("/".join(parts[: at + 1])) for at in reversed(range(len(parts))))

    def matches_itself(self, path: str) -> bool:
        """Whether ``path`` matches, whatever it is in."""
        return self._compiled.fullmatch(path) is not None

    @property
    def fixed(self) -> str:
        """The part of the pattern before its first wildcard."""
        found = _WILD.search(self.text)
        return self.text if found is None else self.text[: found.start()]

    def may_match_below(self, folder: str) -> bool:
        """Whether something in ``folder`` could match that ``folder`` itself does not."""
        has_wildcards = self.fixed != self.text
        return self.fixed.startswith(f"{folder}/") or (has_wildcards and f"{folder}/".startswith(self.fixed))


def ignored(patterns: Iterable[Pattern], path: str) -> bool:
    """Whether ``patterns`` leave ``path`` out: the last one that matches decides."""
    out = False
    for pattern in patterns:
        if pattern.brings_back == out and pattern.matches(path):
            out = not pattern.brings_back
    return out


def parse(text: str, where: object = IGNORE_FILE) -> tuple[Pattern, ...]:
    """Read an ignore file; raises ``InvalidDocumentError`` naming every line that is not a pattern."""
    found, violations = [], []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line.startswith("#") or not line.strip():
            continue
        word = line.strip()
        brings_back = word.startswith("!")
        word = word.removeprefix("!").strip() if brings_back else word
        if not word:
            violations.append(f"line {number} has ! and no pattern")
            continue
        word = posixpath.normpath(word)
        # normpath keeps two slashes at the beginning, which mean nothing here.
        word = f"/{word.lstrip('/')}" if word.startswith("/") else word
        if len(word) > 1:
            word = word.removeprefix("/")
        if not _is_valid(word):
            violations.append(f"line {number} is not a pattern: {word!r} has a [ without ], or ends with a backslash")
            continue
        try:
            found.append(Pattern(word, brings_back))
        except re.error as error:
            violations.append(f"line {number} is not a pattern ({error})")
    if violations:
        raise InvalidDocumentError(where, violations, hint="write it as Docker's .dockerignore is written")
    return tuple(found)


def _is_valid(pattern: str) -> bool:
    """Whether every set is one, and every backslash has something to escape."""
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            at += 1
            if at == len(pattern):
                return False
        elif letter == "[":
            found = _SET.match(pattern, at)
            if found is None:
                return False
            at = found.end() - 1
        at += 1
    return True


def _expression(pattern: str) -> str:
    """The pattern as a regular expression, for a whole path."""
    rest = pattern.removeprefix("**")
    if rest != pattern and not rest.startswith("/") and _WILD.search(rest) is None:
        return f".*{re.escape(rest)}"  # moby takes the end of any name for it, not a name
    pieces = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*" and pattern[at : at + 1] == "*":
            at += 2 if pattern[at + 1 : at + 2] == "/" else 1
            pieces.append(".*" if at == len(pattern) else "(?:.*/)?")
        elif letter == "*":
            pieces.append("[^/]*")
        elif letter == "?":
            pieces.append("[^/]")
        elif letter == "\\":
            pieces.append(re.escape(pattern[at]))
            at += 1
        elif letter == "[" and (found := _SET.match(pattern, at - 1)) is not None:
            items = re.sub(r"\\(.)|[^-]", lambda item: re.escape(item[1] or item[0]), found[2], flags=re.DOTALL)
            pieces.append(f"[{found[1]}{items}]")
            at = found.end()
        else:
            pieces.append(re.escape(letter))
    return "".join(pieces)
