"""JSON documents: one serialisation, and reading field by field, so that all violations are reported together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from edgepack.errors import EdgepackError, InvalidDocumentError
from edgepack.nearness import nearest

_T = TypeVar("_T")


def canonical_json(value: object) -> bytes:
    """The one serialisation of ``value``."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_object(data: bytes, where: object) -> dict[str, Any]:
    """Parse a JSON object; raises ``InvalidDocumentError``."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidDocumentError(where, [f"not JSON ({error})"]) from error
    if not isinstance(value, dict):
        raise InvalidDocumentError(where, ["must be a JSON object"])
    try:
        canonical_json(value)
    except (UnicodeEncodeError, RecursionError) as error:  # half of a surrogate pair has no UTF-8
        raise InvalidDocumentError(where, ["holds text that is not Unicode"]) from error
    return value


class Fields:
    """The fields of one JSON object at ``path`` inside a document; ``violations`` is shared by the whole document."""

    def __init__(self, value: object, path: str, violations: list[str]) -> None:
        self._path = path
        self._violations = violations
        self._known: set[str] = set()
        self._is_object = isinstance(value, Mapping)
        self._value: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        if not self._is_object:
            violations.append(f"{path or 'the document'} must be an object")

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def take(self, key: str, kind: type[_T], default: _T | None = None, *, required: bool = False) -> _T | None:
        """The field ``key`` when it is a ``kind``, else ``default`` and a violation."""
        self._known.add(key)
        value = self._value.get(key)
        if value is None:
            if required and self._is_object:  # else that it is not an object has been said
                self._violations.append(f"{self._name(key)} is missing")
            return default
        number_as_bool = isinstance(value, bool) and kind is not bool
        if kind is float and isinstance(value, int) and not number_as_bool:
            value = float(value)
        if not isinstance(value, kind) or number_as_bool:
            words = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
            self._violations.append(f"{self._name(key)} must be {words.get(kind, kind.__name__)}")
            return default
        return value

    def parsed(self, key: str, parse: Callable[[str], _T], *, required: bool = True) -> _T | None:
        """The text field ``key`` read by ``parse``; its error becomes a violation."""
        text = self.take(key, str, required=required)
        if text is None:
            return None
        try:
            return parse(text)
        except EdgepackError as error:
            self._violations.append(f"{self._name(key)}: {error.what}")
            return None

    def each(self, key: str, *, required: bool = True) -> list[Fields]:
        """The objects of the list ``key``."""
        items = self.take(key, list, required=required) or []
        return [Fields(item, f"{self._name(key)}[{at}]", self._violations) for at, item in enumerate(items)]

    def read_each(self, key: str, read: Callable[[Any, str], _T]) -> tuple[_T, ...]:
        """The items of the list ``key``, each read by ``read(item, its path)``; errors become violations."""
        found = []
        for at, item in enumerate(self.take(key, list, required=True) or []):
            try:
                found.append(read(item, f"{self._name(key)}[{at}]"))
            except EdgepackError as error:
                self._violations.append(str(error))
        return tuple(found)

    def schema(self, name: str) -> None:
        """Require the field ``schema`` to be ``name``."""
        found = self.take("schema", str, required=True)
        if found not in (name, None):
            self.wrong("schema", f"must be {name}, is {found}")

    def child(self, key: str) -> Fields:
        """The object ``key``, empty when it is not there."""
        return Fields(self.take(key, dict, {}) or {}, self._name(key), self._violations)

    def wrong(self, key: str, text: str) -> None:
        """Add a violation of the field ``key``."""
        self._violations.append(f"{self._name(key)} {text}")

    def finish(self) -> None:
        """Report the fields that were not read: a misspelt field must not be ignored in silence."""
        for key in sorted(set(self._value) - self._known):
            near = nearest(key, self._known)
            meant = "" if near is None else f"; did you mean {near!r}?"
            self._violations.append(f"{self._name(key)} is not a known field{meant}")


def raise_all(where: object, violations: Sequence[str], *, hint: str | None = None) -> None:
    """Raise ``InvalidDocumentError`` when there are violations."""
    if violations:
        raise InvalidDocumentError(where, violations, hint=hint)
