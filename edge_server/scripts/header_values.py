"""Headers of a request as values: who asks, with what, and what answer is wanted."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_PARAMETER = re.compile(r'\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^,\s]*))\s*(?:,|$)')


class Accepted:
    """Choices in an Accept header: ``best``, ``best_match``, ``in``, ``[…]``.

    Wildcards come last, and before them what is wanted most comes first.

    Iterating gives pairs of a choice and its weight, from 0 to 1, as a dictionary's ``items`` do.
    """

    def __init__(self, header: str | None) -> None:
        found = []
        for position, piece in enumerate((header or "").split(",")):
            choice, *parameters = (part.strip() for part in piece.split(";"))
            weight = _weight(next((part[2:] for part in parameters if part[:2].lower() == "q="), "1"))
            if choice and weight is not None:
                found.append((-_closeness(choice), -weight, position, choice))
        self._pairs = [(choice, -weight) for _, weight, _, choice in sorted(found)]

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, choice: str) -> bool:
        return any(_covers(wanted, choice) for wanted, _ in self._pairs)

    def __getitem__(self, choice: str) -> float:
        return self.quality(choice)

    def __str__(self) -> str:
        return ",".join(choice if weight == 1 else f"{choice};q={weight:g}" for choice, weight in self._pairs)

    def values(self) -> list[str]:
        """The choices."""
        return [choice for choice, _ in self._pairs]

    @property
    def best(self) -> str | None:
        """What is wanted most."""
        return self._pairs[0][0] if self._pairs else None

    def quality(self, choice: str) -> float:
        """How much that one is wanted: the weight of the closest choice that covers it, 0 for none."""
        covering = [(_closeness(wanted), weight) for wanted, weight in self._pairs if _covers(wanted, choice)]
        return max(covering)[1] if covering else 0.0

    def best_match(self, choices: Iterable[str], default: str | None = None) -> str | None:
        """Which of the choices is wanted most; ``default`` when none of them is."""
        rated = [(self.quality(choice), -position, choice) for position, choice in enumerate(choices)]
        best = max(rated, default=(0.0, 0, ""))
        return best[2] if best[0] > 0 else default

    @property
    def accept_json(self) -> bool:
        """Whether JSON is wanted."""
        return "application/json" in self

    @property
    def accept_html(self) -> bool:
        """Whether HTML is wanted."""
        return "text/html" in self or "application/xhtml+xml" in self


def _weight(text: str) -> float | None:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return None


def _covers(wanted: str, choice: str) -> bool:
    wanted, choice = wanted.lower(), choice.lower()
    if wanted in ("*", "*/*", choice):
        return True
    return wanted.endswith("/*") and choice.startswith(wanted[:-1])


def _closeness(wanted: str) -> int:
    return 0 if wanted in ("*", "*/*") else 1 if wanted.endswith("/*") else 2


@dataclass(frozen=True)
class UserAgent:
    """The program that asks. ``string`` is the header; what it says of browser and platform is not taken apart."""

    string: str

    def __str__(self) -> str:
        return self.string

    def to_header(self) -> str:
        """The header."""
        return self.string


@dataclass(frozen=True)
class Authorization:
    """An Authorization header. ``type`` is the scheme in lower case; it has a token, or parameters, or a user.

    ``username`` and ``password`` are those of the scheme ``basic``, ``token`` is that of ``bearer`` and the like.
    """

    type: str
    token: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    _header: str = ""

    @classmethod
    def from_header(cls, value: str | None) -> Authorization | None:
        """Read a header; None without one, and for one that cannot be read."""
        scheme, _, rest = (value or "").strip().partition(" ")
        scheme, rest = scheme.lower(), rest.strip()
        if not scheme:
            return None
        if scheme == "basic":
            try:
                user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
            except (binascii.Error, ValueError):
                return None
            return cls(scheme, None, {"username": user, "password": password}, value or "")
        if "=" in rest.rstrip("="):
            found = {name: quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
            return cls(scheme, None, found, value or "")
        return cls(scheme, rest, {}, value or "")

    def get(self, name: str, default: str | None = None) -> str | None:
        """A parameter."""
        return self.parameters.get(name, default)

    @property
    def username(self) -> str | None:
        """The user of the scheme ``basic``."""
        return self.get("username")

    @property
    def password(self) -> str | None:
        """The password of the scheme ``basic``."""
        return self.get("password")

    def to_header(self) -> str:
        """The header."""
        return self._header

    __str__ = to_header

    def __repr__(self) -> str:
        return f"<Authorization {self.type}>"  # it may be logged
