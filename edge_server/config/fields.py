"""Reading a JSON document field by field, collecting every violation instead of stopping at the first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from edge_server.config.nearness import did_you_mean, not_one_of
from edge_server.errors import ConfigurationError, MissingFileError

Value = TypeVar("Value")

_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def read_document(path: Path, what: str, schema: str | None) -> Fields:
    """Read the JSON object in ``path``, checking that its ``schema`` is the one expected.

    Raises MissingFileError when there is no such file, ConfigurationError for a folder, or what is not a JSON object.
    """
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise ConfigurationError(str(path), [f"is a folder; give the {what}'s file in it"]) from None
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"there is no {what} at {path}; check the path") from None
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read ({error.strerror})"]) from None
    try:
        document = _parsed(content)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(str(path), [f"is not JSON ({error})"]) from None
    except _DuplicateError as error:
        raise ConfigurationError(str(path), [str(error)]) from None
    if not isinstance(document, dict):
        raise ConfigurationError(str(path), ["must hold one JSON object"])
    fields = Fields(path, document)
    if schema is not None and (found := fields.take("schema", str, "")) != schema and found:
        fields.add_violation("schema", f"is {found!r}, this server reads {schema!r}")
    return fields


def _parsed(content: bytes) -> Any:
    """The value in ``content``, by the standard library: a workstation checks service.json with nothing else there."""
    document = json.loads(content.decode(), object_pairs_hook=_unique, parse_int=_number, parse_constant=_no_number)
    json.dumps(document, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    return document


def _number(text: str) -> int | float:
    # What has no 64 bits is no count of anything.
    return int(text) if len(text) < 19 or -(1 << 63) <= int(text[:25]) < 1 << 64 else float(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number in JSON")


class _DuplicateError(Exception):
    """A field that is in an object twice: which of the two is meant cannot be known."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateError(f"has the field {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


class Fields:
    """One JSON object of a document. Reading never raises: violations are kept until ``finish``."""

    def __init__(
        self, path: Path, values: dict[str, Any], prefix: str = "", violations: list[str] | None = None
    ) -> None:
        self.path = path
        self.values = values
        self._prefix = prefix
        self._violations: list[str] = [] if violations is None else violations
        self._taken: set[str] = set()

    def add_violation(self, field: str, problem: str) -> None:
        """Keep a violation of ``field``, which is relative to this object."""
        self._violations.append(f"{self._prefix}{field} {problem}")

    def has(self, field: str) -> bool:
        """Whether the field exists and is not null."""
        self._taken.add(field)
        return self.values.get(field) is not None

    def take(self, field: str, kind: type[Value], fallback: Value, *, required: bool = True) -> Value:
        """Return the field's value of that kind; else add a violation and return ``fallback``.

        A field that is absent or null is a violation only when it is ``required``.
        """
        self._taken.add(field)
        value = self.values.get(field)
        if value is None:
            if required:
                self.add_violation(field, f"is missing; it must be {_NAMES[kind]}")
            return fallback
        # In Python a bool is an int, in JSON it is not; a whole number is a number in both.
        fits = isinstance(value, (int, float) if kind is float else kind) and (
            kind is bool or not isinstance(value, bool)
        )
        if not fits:
            self.add_violation(field, f"must be {_NAMES[kind]}, not {value!r:.60}")
            return fallback
        return value  # type: ignore[no-any-return]

    def object(self, field: str, *, required: bool = True) -> Fields:
        """The object in ``field``, empty when it is absent or not an object; then no field of it is missing."""
        values = self.take(field, dict, {}, required=required)
        wrong = self.values.get(field) is not None and not isinstance(self.values[field], dict)
        return Fields(self.path, values, f"{self._prefix}{field}.", [] if wrong else self._violations)

    def objects(self, field: str, *, required: bool = True) -> Iterator[Fields]:
        """The objects of the list in ``field``; a missing or empty list is a violation where it is ``required``."""
        values = self.take(field, list, [], required=required)
        if required and not values and isinstance(self.values.get(field), list):
            self.add_violation(field, "must not be empty")
        for position, value in enumerate(values):
            name = f"{field}[{position}]"
            if isinstance(value, dict):
                yield Fields(self.path, value, f"{self._prefix}{name}.", self._violations)
            else:
                self.add_violation(name, f"must be an object, not {value!r:.60}")

    def strings(self, field: str, *, required: bool = True) -> tuple[str, ...] | None:
        """The list of strings in ``field``; None when it is absent, null or wrong."""
        values = self.take(field, list, [], required=required)
        if not self.has(field):
            return None
        if any(not isinstance(value, str) for value in values):
            self.add_violation(field, "must be a list of strings")
            return None
        return tuple(values)

    def one_of(self, field: str, fallback: str, values: tuple[str, ...]) -> str:
        """The text in ``field``, one of ``values``; ``fallback`` where it is absent, or is another, a violation."""
        value = self.take(field, str, fallback, required=False)
        if value in values:
            return value
        self.add_violation(field, not_one_of(value, values))
        return fallback

    def reject_unknown(self) -> None:
        """Add a violation for every field that was not read: a misspelled one would be silently ignored."""
        for field in sorted(self.values.keys() - self._taken):
            hint = did_you_mean(field, self._taken)
            self.add_violation(field, f"is not a field that this server knows{hint}")

    def finish(self) -> None:
        """Raise ConfigurationError with all violations of the whole document, if there are any."""
        if self._violations:
            raise ConfigurationError(str(self.path), self._violations)
