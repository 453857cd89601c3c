"""A document held to its JSON Schema: every violation, with its field and its line.

Of JSON Schema (2020-12) ``type``, ``enum``, ``minLength``, ``minimum``, ``maximum``, ``minItems``, ``uniqueItems``,
``properties``, ``required``, ``additionalProperties``, ``items``, references, and ``anyOf`` as a choice between types.
A ``pattern`` is held to where its ``title`` has the words for it and the caller asks for that. Left to rules in code,
which have better words for them, are other patterns and what one field says of another, which is below ``allOf`` and
``dependentRequired``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgepack.nearness import nearest
from edgepack.trees.yaml_tree import Node

Schema = Mapping[str, Any]
_KINDS = {"string": "text", "number": "number", "integer": "number", "boolean": "truth", "null": "null",
          "array": "list", "object": "map"}  # fmt: skip
_WORDS = {"string": "text", "number": "a number", "integer": "a whole number", "boolean": "true or false",
          "array": "a list", "object": "a mapping", "null": "empty"}  # fmt: skip
_SHOWN = 80
# How far below the document a field is looked for that is not where it belongs.
_DEPTH = 3


class SchemaCheck:
    """Holds trees to ``schema``; ``spelled`` turns a field's path into how its writer spells it.

    ``aliases`` are names that fields have elsewhere, which are no fields here, with the paths of what they are called.
    With ``patterns`` a text must match the ``pattern`` that the schema has for it, and be what the ``title`` says.
    """

    def __init__(
        self,
        schema: Schema,
        spelled: Callable[[str], str] = str,
        *,
        patterns: bool = False,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._root = schema
        self._aliases = aliases or {}
        self._spelled = spelled
        self._patterns = patterns

    def violations(self, node: Node, part: Schema | None = None) -> list[str]:
        """Everything that is wrong with ``node``, which is a whole document, or one that ``part`` of the schema has."""
        return list(self._of(node, self._root if part is None else part, ""))

    def _of(self, node: Node, schema: Schema, path: str) -> Iterator[str]:
        schema = self._resolved(schema)
        branches = [self._resolved(one) for one in schema.get("anyOf", ())]
        types = _types(schema) or [one for branch in branches for one in _types(branch)]
        if types and not any(_is(node, one) for one in types):
            yield self._said(node, path, f"must be {_words(types, schema)}{_is_shown(node, schema)}")
            return
        if branches:
            yield from self._of(node, next(one for one in branches if any(_is(node, x) for x in _types(one))), path)
            return
        yield from (self._said(node, path, text) for text in _of_value(node, schema))
        if self._patterns and node.kind == "text" and not re.search(schema.get("pattern", ""), node.text):
            yield self._said(node, path, f"must be {schema['title']}, is {_shown(node)}")
        if node.kind == "map":
            yield from self._of_fields(node, schema, path)
        for at, item in enumerate(node.items):
            yield from self._of(item, schema.get("items", {}), f"{path}[{at}]")

    def _of_fields(self, node: Node, schema: Schema, path: str) -> Iterator[str]:
        known: Mapping[str, Schema] = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in node.fields:
                title = self._resolved(known[name]).get("title")
                text = "is missing" if title is None else f"must be {title}, and is missing"
                yield self._said(node, _below(path, name), text)
        others = schema.get("additionalProperties", True)
        for name, value in node.fields.items():
            place = _below(path, name[:_SHOWN])
            if name in known:
                yield from self._of(value, known[name], place)
            elif isinstance(others, Mapping):
                yield from self._of(value, others, place)
            elif not others:
                yield self._said(value, place, f"is not a known field; {self._meant(name[:_SHOWN], known)}")

    def _meant(self, name: str, known: Iterable[str]) -> str:
        """What somebody may have meant who wrote the field ``name`` where ``known`` ones are."""
        elsewhere = {_plain(path.rpartition(".")[2]): path for path in self._paths(self._root, "")} | {
            _plain(alias): path for alias, path in self._aliases.items()
        }
        here = {_plain(one) for one in known}
        near = None if _plain(name) in here else elsewhere.get(_plain(name))
        near = near or nearest(name, known)
        return f"known are {', '.join(known)}" if near is None else f"did you mean {near!r}?"

    def _paths(self, schema: Schema, above: str) -> Iterator[str]:
        """The fields of ``schema`` and of what is in them, by their paths."""
        if above.count(".") < _DEPTH:  # one may have itself in it
            for name, part in self._resolved(schema).get("properties", {}).items():
                yield _below(above, name)
                yield from self._paths(part, _below(above, name))

    def _said(self, node: Node, path: str, text: str) -> str:
        return node.at(f"{self._spelled(path) or 'the document'} {text}")

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Any = self._root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _types(schema: Schema) -> Sequence[str]:
    said = schema.get("type", ())
    return [said] if isinstance(said, str) else list(said)


def _is(node: Node, kind: str) -> bool:
    if node.kind != _KINDS[kind]:
        return False
    return kind != "integer" or re.fullmatch(r"[-+]?[0-9]+", node.text) is not None


def _words(types: Sequence[str], schema: Schema) -> str:
    words = {**_WORDS, "string": "a path"} if schema.get("format") == "path" else _WORDS
    said = [words[one] for one in dict.fromkeys(types) if one != "null"] or ["empty"]
    return " or ".join(said)


def _is_shown(node: Node, schema: Schema) -> str:
    """What it is instead; of a credential only its kind."""
    if node.kind in ("list", "map", "null"):
        return f", is {node.word}"
    if schema.get("writeOnly"):
        return f", is {node.word}" if node.kind != "text" else ""
    quotes = "; write it in quotes" if node.line is not None and "string" in _types(schema) else ""
    return f", is {_shown(node)}{quotes}"


def _shown(node: Node) -> str:
    text = node.text if len(node.text) <= _SHOWN else f"{node.text[:_SHOWN]}…"
    return repr(text) if node.kind == "text" else text


def _of_value(node: Node, schema: Schema) -> Iterator[str]:
    if "enum" in schema and not any(_equals(node, one) for one in schema["enum"]):
        allowed = list(dict.fromkeys(str(one) for one in schema["enum"] if one not in (None, "")))
        yield f"must be {' or '.join(allowed) or 'empty'}, is {_shown(node) if node.text else node.word}"
    yield from _of_amount(node, schema)
    if node.kind != "text":
        return
    if len(node.text) < schema.get("minLength", 0):
        yield "must not be empty"
    elif "\0" in node.text:
        yield "holds a NUL character"


def _of_amount(node: Node, schema: Schema) -> Iterator[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    number = _number(node.text) if node.kind == "number" else None
    if number is not None and least is not None and number < least:
        yield f"must be at least {least}, is {_shown(node)}"
    if number is not None and most is not None and number > most:
        yield f"must be at most {most}, is {_shown(node)}"
    if node.kind != "list":
        return
    if len(node.items) < schema.get("minItems", 0):
        yield "must not be empty"
    texts = [item.text for item in node.items if item.kind == "text"]
    if schema.get("uniqueItems") and len(set(texts)) < len(texts):
        yield f"lists {next(text for text in texts if texts.count(text) > 1)[:_SHOWN]!r} twice"


def _equals(node: Node, value: object) -> bool:
    if value is None:
        return node.kind == "null"
    if isinstance(value, bool):
        return node.kind == "truth" and node.text.lower() == str(value).lower()
    if isinstance(value, int | float):
        return node.kind == "number" and _number(node.text) == value
    return node.kind == "text" and node.text == value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
