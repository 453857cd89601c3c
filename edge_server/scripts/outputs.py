"""What `run` returned, as the answer's status, headers and body.

Beside what JSON knows, numpy arrays and scalars become lists and numbers, a data frame becomes a list of records,
a series or an index a list, and missing values of pandas `null`. So do NaN and infinity: JSON has no word for them, and
an answer that no parser takes would be of no use.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from edge_server.scripts.rawhttp import AMLResponse

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS

# What the connection and the server write by themselves (RFC 9110, sections 7.6.1 and 8.6).
_OURS = frozenset(
    ("connection", "content-length", "date", "keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade")
)
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FAILED = "x-ms-run-function-failed"


class UnserializableError(Exception):
    """The value is nothing that an answer can be made of; the text says why."""


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
        return json.dumps(value, default=_plain, allow_nan=False).encode()
    except Exception:  # noqa: BLE001 - values bring methods of their own
        raise UnserializableError(describe_error(reason)) from None


def _plain(value: Any) -> Any:
    """A value that JSON knows in place of one of numpy or pandas, neither of which is imported for it."""
    kind = type(value)
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


def encode_raw(answer: AMLResponse) -> tuple[int, bool, bytes, bytes]:
    """Status, failed flag, meta part and body of an AMLResponse; UnserializableError when HTTP has no such answer."""
    status = answer.status_code
    if not 200 <= status <= 599:
        raise UnserializableError(f"{status} is not a status that can be answered with")
    failed = answer.run_function_failed or status >= 500
    content_type: str | None = None
    headers = []
    for name, value in answer.headers:
        lower = name.lower()
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise UnserializableError(f"the response header {name!r:.60} has a name or value that HTTP does not allow")
        if lower == "content-type":
            content_type = value
        elif lower == _FAILED:
            failed = failed or value.lower() == "true"
        elif lower not in _OURS:
            headers.append((lower, value))
    return status, failed, orjson.dumps((content_type, headers)), answer.get_data()


def describe_error(error: BaseException) -> str:
    """`Type: text` of an exception in one line of bounded length, even when its `__str__` is broken."""
    try:
        text = " ".join(str(error).split())[:500]
    except BaseException:  # noqa: BLE001 - an exception's own methods may fail
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
