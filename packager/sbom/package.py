"""One package of software in an image: a Debian or Alpine package, or a distribution of Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["deb", "apk", "pypi"]
_TUPLES = ("licences", "requires", "properties")


@dataclass(frozen=True)
class Package:
    """A package; ``""`` and ``()`` for what is not known.

    ``licences`` are as its own record has them: SPDX expressions or names. ``requires`` are names of the same kind.
    ``distribution`` is the system whose package it is, such as ``debian-12``.
    """

    kind: Kind
    name: str
    version: str
    architecture: str = ""
    source: str = ""
    sha256: str = ""
    licences: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    distribution: str = ""
    properties: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The package as a cache keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Package:
        """The package that ``to_json`` wrote; ``TypeError`` or ``KeyError`` for another value."""
        fields: dict[str, Any] = {name: tuple(item) if name in _TUPLES else item for name, item in value.items()}
        fields["properties"] = tuple((str(name), str(text)) for name, text in fields["properties"])
        return cls(**fields)

    @property
    def ref(self) -> str:
        """Its package URL (purl-spec), which names it in the document too."""
        from urllib.parse import quote

        def part(text: str) -> str:
            return quote(text, safe=".-_~")

        name = part(self.name)
        version = f"@{quote(self.version, safe='.-_~:')}" if self.version else ""
        if self.kind == "pypi":
            return f"pkg:pypi/{name}{version}"
        system = self.distribution.partition("-")[0] or ("debian" if self.kind == "deb" else "alpine")
        asked = {"arch": self.architecture, "distro": self.distribution}
        if self.source and self.source != self.name:
            asked["upstream"] = self.source
        query = "&".join(f"{key}={part(text)}" for key, text in sorted(asked.items()) if text)
        return f"pkg:{self.kind}/{part(system)}/{name}{version}{'?' if query else ''}{query}"
