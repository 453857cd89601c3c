"""JSON as the same tree as ``yaml_tree``: each value as it was written, with its line, and no field twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from edgepack.documents import raise_all
from edgepack.errors import InvalidDocumentError
from edgepack.limits import LIMITS
from edgepack.trees.yaml_tree import Kind, Node

# The words of a text that is known to be JSON (RFC 8259, section 2).
_WORD = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_KINDS: dict[str, Kind] = {"true": "truth", "false": "truth", "null": "null"}


def parse_json(text: str, where: object) -> Node:
    """The document in ``text``; raises ``InvalidDocumentError`` with all violations that can be found."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidDocumentError(where, [f"line {error.lineno}: is not JSON ({error.msg})"]) from error
    except (ValueError, RecursionError) as error:  # a number of very many digits, or very many brackets
        raise InvalidDocumentError(
            where, ["is not JSON that can be read: a number is too long, or it is nested too deep"]
        ) from error
    reader = _Reader(text, where)
    found = reader.value(0)
    raise_all(where, reader.violations)
    return found


class _Reader:
    def __init__(self, text: str, where: object) -> None:
        self._read_words = self._numbered(text)
        self._where = where
        self._count = 0
        self.violations: list[str] = []

    @staticmethod
    def _numbered(text: str) -> Iterator[tuple[str, int]]:
        line, at = 1, 0
        for found in _WORD.finditer(text):
            line += text.count("\n", at, found.start())
            at = found.start()
            yield found[0], line

    def value(self, depth: int) -> Node:
        """The value that begins with the next word."""
        return self._value(*next(self._read_words), depth)

    def _value(self, word: str, line: int, depth: int) -> Node:
        self._count += 1
        if self._count > LIMITS.yaml_nodes:
            raise self._error(line, f"holds more than {LIMITS.yaml_nodes} values")
        if depth > LIMITS.yaml_depth:
            raise self._error(line, f"is nested more than {LIMITS.yaml_depth} deep")
        if word == "{":
            return Node("map", line, fields=self._fields(depth))
        if word == "[":
            return Node("list", line, items=tuple(self._items(depth)))
        if word.startswith('"'):
            return Node("text", line, self._text(word, line))
        return Node(_KINDS.get(word, "number"), line, word)

    def _items(self, depth: int) -> Iterator[Node]:
        for word, line in self._read_words:
            if word == "]":
                return
            if word != ",":
                yield self._value(word, line, depth + 1)

    def _fields(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for word, line in self._read_words:
            if word == "}":
                break
            if word == ",":
                continue
            key = self._text(word, line)
            next(self._read_words)  # the colon
            value = self.value(depth + 1)
            if len(key) > LIMITS.yaml_key_chars:
                self.violations.append(
                    f"line {line}: the name of a field has more than {LIMITS.yaml_key_chars} characters"
                )
            elif key in found:
                self.violations.append(f"line {line}: {key[:80]!r} is listed twice, first on line {lines[key]}")
            else:
                found[key], lines[key] = value, line
        return found

    def _text(self, word: str, line: int) -> str:
        found: str = json.loads(word)
        if re.search("[\ud800-\udfff]", found):  # half of a surrogate pair, which no UTF-8 has
            self.violations.append(f"line {line}: holds text that is not Unicode")
            return ""
        return found

    def _error(self, line: int, text: str) -> InvalidDocumentError:
        return InvalidDocumentError(self._where, [*self.violations, f"line {line}: {text}"])
