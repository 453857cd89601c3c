"""What a script that asks for the request itself may answer with: ``AMLResponse``, as Flask's response is used."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

from edge_server.scripts.cookies import http_date, read_date, write_cookie
from edge_server.scripts.fields import HeaderFields
from edge_server.scripts.forms import split_value
from edge_server.scripts.json_bodies import is_json_type
from edge_server.scripts.outputs import encode_json


class CacheControl:
    """The Cache-Control header of an answer, each directive an attribute: ``no_cache = True``, ``max_age = 60``."""

    def __init__(self, headers: HeaderFields) -> None:
        object.__setattr__(self, "_headers", headers)

    def _directives(self) -> dict[str, str | None]:
        pieces = (piece.strip().partition("=") for piece in self._headers.get("cache-control", "").split(","))
        return {name.lower(): value.strip('"') if equals else None for name, equals, value in pieces if name}

    def __getattr__(self, name: str) -> Any:
        directives, directive = self._directives(), name.replace("_", "-")
        if directive not in directives:
            return None
        value = directives[directive]
        return True if value is None else int(value) if value.isdigit() else value

    def __setattr__(self, name: str, value: Any) -> None:
        directives, directive = self._directives(), name.replace("_", "-")
        if value is None or value is False:
            directives.pop(directive, None)
        else:
            directives[directive] = None if value is True else str(value)
        written = ", ".join(name if text is None else f"{name}={text}" for name, text in directives.items())
        if written:
            self._headers["Cache-Control"] = written
        else:
            self._headers.remove("cache-control")

    def __str__(self) -> str:
        return str(self._headers.get("cache-control", ""))


class _Header:
    """A header of an answer as an attribute; None where there is none, and to remove it."""

    def __init__(self, name: str, *, is_date: bool = False) -> None:
        self._name = name
        self._is_date = is_date

    def __get__(self, answer: AMLResponse | None, owner: type | None = None) -> Any:
        if answer is None:
            return self
        value = answer.headers.get(self._name)
        return read_date(value) if self._is_date else value

    def __set__(self, answer: AMLResponse, value: str | float | datetime | None) -> None:
        if value is None:
            answer.headers.remove(self._name)
        else:
            answer.headers[self._name] = http_date(value) if self._is_date else value


class AMLResponse:
    """An answer as a script makes it: ``message`` is text or bytes, or a value for JSON with ``json_str``.

    None answers ``{}``. A generator, or another iterator, asynchronous ones too, is sent piece by piece as it gives
    text or bytes: ``is_streamed``. ``headers`` may be changed afterwards; of ``response_headers``, a value with commas
    becomes one header for each of its parts. A status of 500 and above, or ``run_function_failed``, sets
    ``x-ms-run-function-failed``.
    """

    content_encoding = _Header("Content-Encoding")
    content_language = _Header("Content-Language")
    content_location = _Header("Content-Location")
    location = _Header("Location")
    retry_after = _Header("Retry-After")
    vary = _Header("Vary")
    date = _Header("Date", is_date=True)
    expires = _Header("Expires", is_date=True)
    last_modified = _Header("Last-Modified", is_date=True)

    def __init__(
        self,
        message: Any,
        status_code: int | str | HTTPStatus,
        response_headers: Mapping[str, str] = {},
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        self.status = status_code
        self.run_function_failed = bool(run_function_failed)
        as_json = json_str or message is None
        self.headers = HeaderFields([("Content-Type", "application/json" if as_json else "text/html; charset=utf-8")])
        self.pieces: Iterator[str | bytes] | AsyncIterator[str | bytes] | None = None
        self._body = b""
        if isinstance(message, (Iterator, AsyncIterator)) and not as_json:
            self.pieces = message
        else:
            self._body = _body_of({} if message is None else message, as_json)
        given = list(response_headers.items())
        if any(name.lower() == "content-type" for name, _ in given):
            self.headers.remove("Content-Type")
        for name, value in given:
            for part in str(value).split(","):
                self.headers.add(name, part.strip())

    def __repr__(self) -> str:
        size = "streamed" if self.is_streamed else f"{len(self._body)} bytes"
        return f"<AMLResponse {size} [{self.status_code}]>"

    @property
    def status(self) -> str:
        """The status with its reason, such as ``404 NOT FOUND``; it may be set by its number too."""
        try:
            return f"{self.status_code} {HTTPStatus(self.status_code).phrase.upper()}"
        except ValueError:
            return f"{self.status_code} UNKNOWN"

    @status.setter
    def status(self, value: int | str | HTTPStatus) -> None:
        self.status_code = int(value.split()[0]) if isinstance(value, str) else int(value)

    @property
    def is_streamed(self) -> bool:
        """Whether the body comes piece by piece."""
        return self.pieces is not None

    @property
    def data(self) -> bytes:
        """The body."""
        return self.get_data()  # type: ignore[no-any-return]

    @data.setter
    def data(self, value: str | bytes) -> None:
        self.set_data(value)

    def get_data(self, as_text: bool = False) -> Any:
        """The body as bytes or as text; one that is streamed is put together first."""
        if isinstance(self.pieces, Iterator):
            self.set_data(b"".join(map(piece_bytes, self.pieces)))
        return self._body.decode("utf-8", "replace") if as_text else self._body

    def set_data(self, value: str | bytes) -> None:
        """Replace the body."""
        self._body, self.pieces = _body_of(value, False), None

    @property
    def content_length(self) -> int | None:
        """The body's length in bytes; None for one that is streamed."""
        return None if self.is_streamed else len(self._body)

    @property
    def is_json(self) -> bool:
        """Whether the content type is one of JSON."""
        return is_json_type(self.mimetype)

    @property
    def json(self) -> Any:
        """``get_json()``."""
        return self.get_json()

    def get_json(self, force: bool = False, silent: bool = False) -> Any:
        """The body as JSON; None for another content type, unless ``force``, and for what is none where ``silent``."""
        if not (force or self.is_json):
            return None
        try:
            return json.loads(self.get_data())
        except ValueError:
            if silent:
                return None
            raise

    @property
    def cache_control(self) -> CacheControl:
        """The Cache-Control header, to read and to change."""
        return CacheControl(self.headers)

    def set_cookie(self, key: str, value: str = "", *arguments: Any, **attributes: Any) -> None:
        """Add a cookie; the attributes, in their order too, are those of Flask's: max_age, expires, path, domain,
        secure, httponly, samesite, partitioned.

        Raises ValueError for a cookie that cannot be.
        """
        attributes |= dict(zip(_COOKIE, arguments, strict=False))
        self.headers.add("Set-Cookie", write_cookie(key, value, **attributes))

    def delete_cookie(self, key: str, path: str | None = "/", domain: str | None = None, **attributes: Any) -> None:
        """Let the client forget a cookie."""
        self.set_cookie(key, expires=0, max_age=0, path=path, domain=domain, **attributes)

    @property
    def content_type(self) -> str | None:
        """The Content-Type header."""
        return self.headers.get("content-type")  # type: ignore[no-any-return]

    @content_type.setter
    def content_type(self, value: str) -> None:
        self.headers["Content-Type"] = value

    @property
    def mimetype(self) -> str:
        """The media type alone, in lower case."""
        return split_value(self.content_type or "")[0]

    @mimetype.setter
    def mimetype(self, value: str) -> None:
        self.headers["Content-Type"] = value

    @property
    def mimetype_params(self) -> dict[str, str]:
        """The parameters of the content type."""
        return split_value(self.content_type or "")[1]


_COOKIE = ("max_age", "expires", "path", "domain", "secure", "httponly", "samesite", "partitioned")


def piece_bytes(piece: Any) -> bytes:
    """One piece of a body that is streamed; TypeError for what is neither text nor bytes."""
    if isinstance(piece, str):
        return piece.encode("utf-8", "surrogatepass")
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"a streamed answer has text or bytes, not {type(piece).__name__}")


def _body_of(message: Any, as_json: bool) -> bytes:
    if not as_json:
        if isinstance(message, str):
            return message.encode("utf-8", "surrogatepass")
        if isinstance(message, (bytes, bytearray, memoryview)):
            return bytes(message)
    # Non-ASCII text is escaped, as the standard library does: scripts compare it.
    try:
        return json.dumps(message, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return encode_json(message)
