"""Plain Python values, and dictionaries and lists of other parameter types."""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import re
from typing import Any

from edge_server.compat.inference_schema._swagger import Described, example_of, schema_of, versions_of
from edge_server.compat.inference_schema.errors import InvalidInput

from .abstract_parameter_type import AbstractParameterType

# What JSON calls the values that a parser makes of it.
_NAMES = {
    dict: "an object",
    list: "an array",
    tuple: "an array",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
# Two dates that have nothing in common.
_DEFAULTS = (datetime.datetime(2000, 1, 1), datetime.datetime(2001, 2, 2))  # noqa: DTZ001 - as the text has no zone
_ZONE = re.compile(r"\s+(?=[+-]\d|Z$)")


class StandardPythonParameterType(AbstractParameterType):
    """A sample of plain Python: numbers, text, bytes, dates, lists, dictionaries.

    Values of a dictionary and items of a list may be parameter types themselves; those that a request has are
    converted, and nothing says that it must have them all. One type in a list converts every item, several convert
    by position.
    """

    def __init__(self, sample_input: Any) -> None:
        super().__init__(sample_input)
        self.sample_data_type_map: dict[Any, AbstractParameterType] = {}
        self.sample_data_type_list: list[AbstractParameterType] = []
        if isinstance(sample_input, dict):
            self.sample_data_type_map = {k: v for k, v in sample_input.items() if isinstance(v, AbstractParameterType)}
        elif isinstance(sample_input, (list, tuple)):
            self.sample_data_type_list = [item for item in sample_input if isinstance(item, AbstractParameterType)]

    def deserialize_input(self, input_data: Any) -> Any:
        """Return the value in the sample's type; dates, times and bytes are read from text.

        Raises InvalidInput when it is of another type.
        """
        kind = self.sample_data_type
        if kind in _READERS and isinstance(input_data, str):
            return _read(kind, input_data)
        if kind is tuple and isinstance(input_data, list):
            input_data = tuple(input_data)
        elif kind is float and isinstance(input_data, int) and not isinstance(input_data, bool):
            return input_data  # JSON has one kind of number, and Azure leaves it as it was written
        if not isinstance(input_data, kind):
            raise InvalidInput(f"must be {_name(kind)}, not {_name(type(input_data))}")
        if self.sample_data_type_map:
            return {k: self._inner(self.sample_data_type_map.get(k), k, v) for k, v in input_data.items()}
        if self.sample_data_type_list:
            return kind(self._items(input_data))
        return input_data

    def _items(self, values: Any) -> list[Any]:
        types = self.sample_data_type_list
        if len(types) == 1:
            return [self._inner(types[0], position, value) for position, value in enumerate(values)]
        if len(values) != len(types):
            raise InvalidInput(f"has {len(values)} items, where the sample has {len(types)}")
        return [
            self._inner(kind, position, value) for position, (kind, value) in enumerate(zip(types, values, strict=True))
        ]

    @staticmethod
    def _inner(kind: AbstractParameterType | None, where: Any, value: Any) -> Any:
        if kind is None:
            return value
        try:
            return kind.deserialize_input(value)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None

    def input_to_swagger(self) -> dict[str, Any]:
        """The schema with its example; ValueError for None, TypeError for what JSON cannot hold."""
        if self.sample_input is None:
            raise ValueError("the sample must not be None, which has no type")
        return {**schema_of(self.sample_input), "example": example_of(self.sample_input)}

    def supported_versions(self) -> list[str]:
        """The OpenAPI versions that can describe the sample."""
        return versions_of(_outline(self.sample_input))


def _outline(value: Any) -> Any:
    """The sample as JSON, but with parameter types as they are: what they hold is theirs to say."""
    if isinstance(value, dict):
        return {key: _outline(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_outline(inner) for inner in value]
    return value if isinstance(value, Described) else example_of(value)


def _name(kind: type) -> str:
    return _NAMES.get(kind, kind.__name__)


def _datetime(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(_ZONE.sub("", text.strip()))
    except ValueError:
        return _written(text)


def _written(text: str) -> datetime.datetime:
    """A date in one of the forms that people write, month first, with a time or without; ValueError for half a date."""
    try:
        from dateutil.parser import parse  # type: ignore[import-untyped,unused-ignore]  # comes with pandas
    except ImportError:
        return _in_figures(text)
    # What the text does not say would be taken from today.
    found: list[datetime.datetime] = [parse(text, default=default) for default in _DEFAULTS]
    if found[0] != found[1]:
        raise ValueError("it is not a whole date")
    return found[0]


def _in_figures(text: str) -> datetime.datetime:
    date, _, clock = text.strip().partition(" ")
    time = datetime.time.fromisoformat(clock.strip()) if clock.strip() else datetime.time()
    for form in ("%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d"):
        with contextlib.suppress(ValueError):
            return datetime.datetime.combine(datetime.datetime.strptime(date, form), time)  # noqa: DTZ007 - no zone
    raise ValueError("it is not a date")


def _time(text: str) -> datetime.time:
    return datetime.time.fromisoformat(_ZONE.sub("", text.strip()))


def _date(text: str) -> datetime.date:
    moment = _datetime(text)
    if moment.time() != datetime.time():
        raise ValueError("it has a time")
    return moment.date()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_READERS: dict[type, Any] = {
    datetime.datetime: _datetime,
    datetime.date: _date,
    datetime.time: _time,
    bytes: _bytes,
    bytearray: lambda text: bytearray(_bytes(text)),
}
_WANTED: dict[type, str] = {bytes: "base64", bytearray: "base64"}


def _read(kind: type, text: str) -> Any:
    try:
        return _READERS[kind](text)
    except (ValueError, binascii.Error):
        raise InvalidInput(f"must be {_WANTED.get(kind, 'a ' + kind.__name__)}, not {text!r:.60}") from None
