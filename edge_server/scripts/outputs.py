"""What ``run`` returned, as JSON.

Beside JSON's own types, tuples of every kind become lists, numpy arrays and scalars lists and numbers, a data frame a
list of records, a series or an index a list, and missing values of pandas ``null``. NaN and infinity become ``null``
too: JSON does not have them, and parsers would refuse the answer.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class UnserializableError(Exception):
    """The value cannot be written as an answer; the text says why."""


def encode_json(value: Any) -> bytes:
    """JSON of what a script returns; UnserializableError for sets, bytes, cycles, deep nesting, unknown objects."""
    try:
        return orjson.dumps(value, _plain, _OPTIONS)
    except Exception as error:  # noqa: BLE001 - values bring methods of their own
        reason = error
    if isinstance(reason.__cause__, UnserializableError):
        raise reason.__cause__
    # Whole numbers above 64 bits and lone surrogates, which the standard library writes and orjson does not.
    try:
        return json.dumps(_finite(value), default=lambda inner: _finite(_plain(inner)), allow_nan=False).encode()
    except Exception:  # noqa: BLE001 - values bring methods of their own
        raise UnserializableError(describe_error(reason)) from None


def _plain(value: Any) -> Any:
    """A value of JSON's own types for one of numpy or pandas, neither of which is imported for it."""
    kind = type(value)
    # Named tuples and numbers with a class of their own, which orjson leaves to us.
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and kind is not float:
        return float(value)
    family = (kind.__module__ or "").partition(".")[0]
    if family == "pandas":
        if kind.__name__ == "DataFrame":
            return value.to_dict("records")
        if kind.__name__ in ("NAType", "NaTType"):
            return None
        if hasattr(value, "isoformat"):
            return value.isoformat()
    if family in ("numpy", "pandas") and hasattr(value, "tolist"):
        plain = value.tolist()
        if type(plain) is not kind:
            return plain
    raise UnserializableError(f"a value of type {kind.__name__} cannot be written as JSON")


def _finite(value: Any) -> Any:
    """The value with None for NaN and infinity, in all that ``json`` writes without asking for another form."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value


def describe_error(error: BaseException) -> str:
    """``Type: text`` of an exception in one line of bounded length, even when its ``__str__`` is broken."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """The text of an exception, in one line of bounded length; "" when its ``__str__`` is broken."""
    try:
        return " ".join(str(error).split())[:500]
    except BaseException:  # noqa: BLE001 - an exception's own methods may fail
        return ""
