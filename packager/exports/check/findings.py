"""What a check finds: violations, and remarks on what is allowed and perhaps not meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edgepack.trees.yaml_tree import NULL, Node

NOT_PINNED = "is not pinned by its digest: what runs may change without a change here"
_PINNED = re.compile(r".+@sha256:[0-9a-f]{64}")


@dataclass
class Findings:
    """What was found; each text begins with where it is."""

    violations: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def wrong(self, place: Place, text: str) -> None:
        """Add a violation."""
        self.violations.append(place.said(text))

    def remark(self, place: Place, text: str) -> None:
        """Add a remark."""
        self.remarks.append(place.said(text))

    def add(self, other: Findings) -> None:
        """Add what was found elsewhere."""
        self.violations += other.violations
        self.remarks += other.remarks


@dataclass(frozen=True)
class Place:
    """A ``node`` at ``path`` inside of the object that ``head`` names; ``at`` is for the line of one that is absent."""

    node: Node
    path: str
    head: str
    above: Node = NULL

    def said(self, text: str) -> str:
        """``text`` with the object, the line and the path before it."""
        line = self.node.line if self.node.line is not None else self.above.line
        where = "" if line is None else f"line {line}: "
        return f"{self.head}: {where}{self.path} {text}"

    def child(self, *names: str) -> Place:
        """A field below, empty where there is none."""
        found = self
        for name in names:
            inner = found.node.fields.get(name, NULL)
            above = found.node if found.node.line is not None else found.above
            found = Place(inner, f"{found.path}.{name}" if found.path else name, found.head, above)
        return found

    def each(self, *names: str) -> Iterator[Place]:
        """The items of a list below."""
        place = self.child(*names)
        for at, item in enumerate(place.node.items):
            yield Place(item, f"{place.path}[{at}]", self.head, place.node)

    def entries(self, *names: str) -> Iterator[tuple[str, Place]]:
        """The fields of a mapping below, by name."""
        place = self.child(*names)
        for name in place.node.fields:
            yield name, place.child(name)

    @property
    def exists(self) -> bool:
        """Whether something is there."""
        return self.node.kind != "null"

    @property
    def text(self) -> str:
        """The text of a scalar, as it is written; else nothing."""
        return self.node.text if self.node.kind in ("text", "number", "truth") else ""

    @property
    def number(self) -> int | None:
        """The whole number, if it is one."""
        return int(self.node.text) if self.node.kind == "number" and _is_whole(self.node.text) else None

    @property
    def is_true(self) -> bool:
        """Whether it says true."""
        return self.node.kind == "truth" and self.node.text.lower() in ("true", "yes", "on", "y")

    def mapping(self, *names: str) -> dict[str, str]:
        """A mapping of texts below."""
        return {name: place.text for name, place in self.entries(*names)}


def _is_whole(text: str) -> bool:
    # Python refuses to read very long ones; a field of Kubernetes has at most 64 bits.
    return len(text) < 20 and text.lstrip("+-").isdecimal()


def is_pinned(image: str) -> bool:
    """Whether a reference names an image by its digest."""
    return _PINNED.fullmatch(image) is not None


def is_port(text: str) -> bool:
    """Whether it is the number of a port."""
    return len(text) < 6 and text.isdecimal() and 0 < int(text) < 65536


def listed(items: Sequence[str]) -> str:
    """Names with quotes, in words."""
    return ", ".join(repr(one) for one in items) or "none"
