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


def parse_object(data: bytes, where: object, *, hint: str | None = None) -> dict[str, Any]:
    """Parse a JSON object of ours; raises ``InvalidDocumentError`` with ``hint``.

    Strict: UTF-8 without a byte order mark, and no field twice in an object. What two readers could read differently
    must not be signed, or decide what runs.
    """
    try:
        return _object(_parsed(data, where, _unique), where)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(where, error.violations, hint=hint) from error


def parse_canonical(data: bytes, where: object) -> dict[str, Any]:
    """Parse a JSON object that only this project writes: as ``parse_object``, and the bytes of ``canonical_json``."""
    value = parse_object(data, where)
    if canonical_json(value) != data:
        raise InvalidDocumentError(where, ["is not in its canonical form: sorted fields, no white space"])
    return value


def parse_foreign(data: bytes, where: object) -> dict[str, Any]:
    """Parse a JSON object that other tools write, such as an image's manifest; raises ``InvalidDocumentError``.

    Lenient where engines are: a field may be there twice with the same value. Twice with different ones, in the same
    spelling or in one that differs in capitals (which engines read as the same field), is refused.
    """
    value = _object(_parsed(data, where, _unambiguous), where)
    _check_spellings(value, where)
    return value


def parse_foreign_list(data: bytes, where: object) -> list[Any]:
    """The same for a JSON list."""
    value = _parsed(data, where, _unambiguous)
    if not isinstance(value, list):
        raise InvalidDocumentError(where, ["must be a JSON list"])
    _check_spellings(value, where)
    return value


# Fields of image documents that decide what an image is. Go, which engines are written in, ignores capitals.
_DECISIVE = frozenset(
    {
        "schemaversion", "mediatype", "config", "layers", "manifests", "subject", "artifacttype", "digest", "size",
        "platform", "architecture", "os", "variant", "rootfs", "diff_ids", "entrypoint", "cmd", "user", "env",
        "workingdir", "repotags",
    }
)  # fmt: skip
# Objects whose fields are anybody's names, which differ in capitals.
_NAMES = frozenset({"annotations", "labels", "volumes", "exposedports"})


class _DuplicateError(ValueError):
    """A field that is in an object twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateError(f"the field {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return found


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and _differ(found[key], value):
            raise _DuplicateError(f"the field {key!r} is there twice, with different values")
        found[key] = value
    return found


def _check_spellings(value: object, where: object) -> None:
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        if not isinstance(item, dict):
            continue
        spelt: dict[str, str] = {}
        for key in item:
            other = spelt.setdefault(key.lower(), key)
            if other != key and key.lower() in _DECISIVE and _differ(item[other], item[key]):
                raise InvalidDocumentError(where, [f"the field {other!r} is there again as {key!r}"])
        waiting += [below for key, below in item.items() if key.lower() not in _NAMES]


def _differ(one: object, other: object) -> bool:
    # True is 1 to Python, and is not to JSON.
    return type(one) is not type(other) or one != other


def _parsed(data: bytes, where: object, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidDocumentError(where, [f"not UTF-8 ({error.reason} at byte {error.start})"]) from error
    if text.startswith("\ufeff"):
        raise InvalidDocumentError(where, ["begins with a byte order mark, which JSON does not have"])
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except _DuplicateError as error:
        raise InvalidDocumentError(where, [str(error)]) from error
    except (ValueError, RecursionError) as error:
        raise InvalidDocumentError(where, [f"not JSON ({error})"]) from error
    try:
        canonical_json(value)
    except (UnicodeEncodeError, RecursionError) as error:  # half of a surrogate pair has no UTF-8
        raise InvalidDocumentError(where, ["holds text that is not Unicode"]) from error
    return value


def _object(value: object, where: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidDocumentError(where, ["must be a JSON object"])
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
            words = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object",
                     bool: "true or false"}  # fmt: skip
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
