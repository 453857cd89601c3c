"""YAML as a tree that has each value as it was written, with its line.

Read from the parser's events, so that nothing is constructed: no tag makes an object, ``3.10`` stays ``3.10``, a field
that is listed twice is seen, and an alias counts as often as it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgepack.documents import raise_all
from edgepack.errors import InvalidDocumentError
from edgepack.limits import LIMITS

if TYPE_CHECKING:
    import yaml

Kind = Literal["text", "number", "truth", "null", "list", "map"]
_CORE = "tag:yaml.org,2002:"
_KINDS: Mapping[str, Kind] = {
    "str": "text", "int": "number", "float": "number", "bool": "truth", "null": "null",
    # A date is written where a text is meant, and "=" is a text.
    "timestamp": "text", "value": "text",
}  # fmt: skip
_WORDS = {"text": "text", "number": "a number", "truth": "true or false", "null": "empty", "list": "a list",
          "map": "a mapping"}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A value: the ``text`` of a scalar, the ``items`` of a list, or the ``fields`` of a mapping; ``line`` from 1."""

    kind: Kind
    line: int | None = None
    text: str = ""
    items: tuple[Node, ...] = ()
    fields: Mapping[str, Node] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether it is a text, or a number that may stand for one, such as a version."""
        return self.kind in ("text", "number")

    @property
    def word(self) -> str:
        """What it is, for an error."""
        return _WORDS[self.kind]

    def at(self, path: str) -> str:
        """``path`` with the line, for an error."""
        return path if self.line is None else f"line {self.line}: {path}"


NULL = Node("null")


def parse_yaml(text: str, where: object) -> Node:
    """The one document in ``text``; raises ``InvalidDocumentError`` with all violations that can be found."""
    found = _parse(text, where, 1)
    return found[0] if found else Node("null", 1)


def parse_yaml_stream(text: str, where: object) -> tuple[Node, ...]:
    """All documents in ``text``, which ``---`` separates; raises ``InvalidDocumentError``.

    An alias names something of its own document.
    """
    return _parse(text, where, None)


def _parse(text: str, where: object, most: int | None) -> tuple[Node, ...]:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Reader(yaml.parse(text, loader), where).documents(most)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f"line {mark.line + 1}: "
        raise InvalidDocumentError(where, [f"{line}is not YAML ({error.problem or error.context})"]) from error
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise InvalidDocumentError(where, [f"is not YAML ({' '.join(str(error).split())[:200]})"]) from error


def json_tree(value: object, where: object, depth: int = 0) -> Node:
    """The tree of a value that was read from JSON; raises ``InvalidDocumentError`` for one that is nested too deep."""
    if depth > LIMITS.yaml_depth:
        raise InvalidDocumentError(where, [f"is nested more than {LIMITS.yaml_depth} deep"])
    if isinstance(value, Mapping):
        return Node("map", fields={str(key): json_tree(below, where, depth + 1) for key, below in value.items()})
    if isinstance(value, list | tuple):
        return Node("list", items=tuple(json_tree(item, where, depth + 1) for item in value))
    if isinstance(value, bool):
        return Node("truth", text=str(value).lower())
    if value is None:
        return Node("null")
    return Node("text" if isinstance(value, str) else "number", text=str(value))


def value_of(node: Node) -> Any:
    """``node`` as JSON has it."""
    match node.kind:
        case "map":
            return {key: value_of(below) for key, below in node.fields.items()}
        case "list":
            return [value_of(item) for item in node.items]
        case "truth":
            return is_true(node)
        case "null":
            return None
        case "number":
            return _number(node.text)
    return node.text


def is_true(node: Node) -> bool:
    """Whether ``node`` says so, in JSON's spelling or one of YAML's."""
    return node.kind == "truth" and node.text.lower() in ("true", "yes", "on", "y")


def _number(text: str) -> int | float | str:
    """A number of JSON; one that only YAML writes, such as 0x1f or 1:30, stays as it is written."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


class _Reader:
    def __init__(self, events: Iterator[yaml.Event], where: object) -> None:
        import yaml

        self._yaml = yaml
        self._resolver = yaml.SafeLoader("")
        self._events = events
        self._where = where
        self._violations: list[str] = []
        # What an anchor names, and how many nodes that is; None while it is being read.
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._count = 0

    def documents(self, most: int | None) -> tuple[Node, ...]:
        """Read the whole stream, in which there may be so many documents."""
        yaml = self._yaml
        found: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
                continue
            if isinstance(event, yaml.DocumentStartEvent):
                if most is not None and len(found) == most:
                    raise self._error(event, "a second document begins here; keep one in a file")
                self._anchors.clear()
                continue
            found.append(self._node(event, 0))
        raise_all(self._where, self._violations)
        return tuple(found)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        yaml = self._yaml
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            named = self._anchors.get(event.anchor)
            if named is None:
                raise self._error(event, f"alias *{event.anchor} names nothing that ends before it")
            self._add(event, named[1])
            return named[0]
        before = self._count
        self._add(event, 1)
        if depth > LIMITS.yaml_depth:
            raise self._error(event, f"is nested more than {LIMITS.yaml_depth} deep")
        anchor: str | None = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = Node(self._kind(event), line, event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, "seq")
            node = Node("list", line, items=tuple(self._items(depth)))
        else:
            self._check_tag(event, "map")
            node = Node("map", line, fields=self._fields(depth))
        if anchor is not None:
            self._anchors[anchor] = (node, self._count - before)
        return node

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), self._yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _fields(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), self._yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if key.kind in ("list", "map", "null"):
                self._violations.append(f"line {line}: the name of a field is {key.word}")
            elif len(key.text) > LIMITS.yaml_key_chars:
                self._violations.append(
                    f"line {line}: the name of a field has more than {LIMITS.yaml_key_chars} characters"
                )
            elif key.text == "<<":
                self._violations.append(f"line {line}: '<<' is not supported; write the fields out")
            elif key.text in found:
                self._violations.append(
                    f"line {line}: {key.text[:80]!r} is listed twice, first on line {lines[key.text]}"
                )
            else:
                found[key.text], lines[key.text] = value, line
        return found

    def _kind(self, event: yaml.ScalarEvent) -> Kind:
        tag = event.tag
        if tag in (None, "!"):
            tag = self._resolver.resolve(self._yaml.ScalarNode, event.value, event.implicit)
        kind = _KINDS.get(str(tag).removeprefix(_CORE))
        if kind is None and tag != f"{_CORE}merge":
            raise self._error(event, f"the tag {tag!r} is not supported; leave it out")
        return kind or "text"

    def _check_tag(self, event: Any, wanted: str) -> None:
        if event.tag not in (None, "!", f"{_CORE}{wanted}"):
            raise self._error(event, f"the tag {event.tag!r} is not supported; leave it out")

    def _add(self, event: yaml.Event, nodes: int) -> None:
        self._count += nodes
        if self._count > LIMITS.yaml_nodes:
            raise self._error(event, f"holds more than {LIMITS.yaml_nodes} values, aliases included")

    def _error(self, event: yaml.Event, text: str) -> InvalidDocumentError:
        line = event.start_mark.line + 1
        return InvalidDocumentError(self._where, [*self._violations, f"line {line}: {text}"])
