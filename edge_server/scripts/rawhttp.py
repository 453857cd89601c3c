"""For scripts that take the raw request: ``rawhttp``, ``AMLRequest`` and ``AMLResponse``, without Flask."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

from edge_server.scripts.fields import Fields, HeaderFields
from edge_server.scripts.forms import FIELDS, UploadedFile, read_multipart, read_urlencoded, split_value
from edge_server.scripts.inputs import RefusedInputError
from edge_server.scripts.json_bodies import read_json
from edge_server.scripts.outputs import encode_json

_Run = TypeVar("_Run", bound=Callable[..., Any])
_MARK = "_scoring_rawhttp"


def rawhttp(run: _Run) -> _Run:
    """Decorator: ``run`` gets the AMLRequest and may return an AMLResponse."""
    try:
        setattr(run, _MARK, True)
    except AttributeError:  # a bound method, or another callable without attributes
        wrapped = functools.wraps(run)(lambda request: run(request))
        setattr(wrapped, _MARK, True)
        return wrapped  # type: ignore[return-value]
    return run


def is_raw(run: Callable[..., Any]) -> bool:
    """Whether ``run`` was decorated with rawhttp."""
    return getattr(run, _MARK, False) is True


class InvalidJSONError(RefusedInputError, ValueError):
    """The body is not the JSON that the script asks for; where it is not caught, the client gets 400 or 415."""


class AMLRequest:
    """The request as a raw script sees it, with the attributes and methods of ``flask.Request`` that scripts use."""

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        headers: list[tuple[str, str]],
        body: bytes,
        client: str = "",
        scheme: str = "http",
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query.encode("latin-1", "replace")
        # Title case, as WSGI servers have it.
        self.headers = HeaderFields((name.title(), value) for name, value in headers)
        self.data = body
        self.remote_addr = client or None
        self.scheme = scheme
        self._query = query
        self._forms: tuple[list[tuple[str, str]], list[tuple[str, UploadedFile]]] | None = None

    def __repr__(self) -> str:
        return f"<AMLRequest {self.url!r} [{self.method}]>"

    @property
    def host(self) -> str:
        """The Host header."""
        return str(self.headers.get("host", "localhost"))

    @property
    def host_url(self) -> str:
        """Scheme and host, with a slash at the end."""
        return f"{self.scheme}://{self.host}/"

    url_root = host_url

    @property
    def base_url(self) -> str:
        """The URL without its query."""
        return f"{self.scheme}://{self.host}{self.path}"

    @property
    def url(self) -> str:
        """The URL with its query, if there is one."""
        return f"{self.base_url}?{self._query}" if self._query else self.base_url

    @property
    def full_path(self) -> str:
        """Path, ``?`` and query; the ``?`` is there without a query too."""
        return f"{self.path}?{self._query}"

    @property
    def is_secure(self) -> bool:
        """Whether the request came over TLS."""
        return self.scheme == "https"

    @property
    def content_type(self) -> str | None:
        """The Content-Type header, with its parameters."""
        return self.headers.get("content-type")  # type: ignore[no-any-return]

    @property
    def mimetype(self) -> str:
        """The media type alone, in lower case."""
        return split_value(self.content_type or "")[0]

    @property
    def mimetype_params(self) -> dict[str, str]:
        """The parameters of the content type."""
        return split_value(self.content_type or "")[1]

    @property
    def content_length(self) -> int:
        """The body's length in bytes."""
        return len(self.data)

    @property
    def args(self) -> Fields:
        """The query's fields."""
        try:
            return Fields(parse_qsl(self._query, keep_blank_values=True, max_num_fields=FIELDS))
        except ValueError:
            raise RefusedInputError(f"The query has more than {FIELDS} fields") from None

    @property
    def form(self) -> Fields:
        """The fields of a form in the body, without its files."""
        return Fields(self._read_form()[0])

    @property
    def files(self) -> Fields:
        """The files of a form in the body: UploadedFile by the field's name."""
        return Fields(self._read_form()[1])

    @property
    def values(self) -> Fields:
        """The fields of the query, then those of the form."""
        return Fields([*self.args.pairs(), *self._read_form()[0]])

    @property
    def cookies(self) -> Fields:
        """The cookies that the client sent."""
        pairs = (piece.partition("=") for header in self.headers.getlist("cookie") for piece in header.split(";"))
        return Fields((name.strip(), unquote(value.strip().strip('"'))) for name, found, value in pairs if found)

    @property
    def stream(self) -> BytesIO:
        """The body as a file, from its beginning."""
        return BytesIO(self.data)

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:
        """The body as bytes, or as text, with bytes that are not UTF-8 replaced. The other arguments change nothing."""
        return self.data.decode("utf-8", "replace") if as_text else self.data

    @property
    def is_json(self) -> bool:
        """Whether the content type is one of JSON."""
        kind = self.mimetype
        return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))

    @property
    def json(self) -> Any:
        """``get_json()``."""
        return self.get_json()

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as JSON. ``force`` reads it whatever its content type; ``silent`` gives None instead of an error.

        Raises InvalidJSONError for another content type (415) and for what is not JSON (400).
        """
        if not (force or self.is_json):
            if silent:
                return None
            raise InvalidJSONError("Expects Content-Type to be application/json", 415)
        try:
            return read_json(self.data)
        except ValueError as error:
            if silent:
                return None
            raise InvalidJSONError(f"The body could not be decoded as JSON: {error}") from None

    def _read_form(self) -> tuple[list[tuple[str, str]], list[tuple[str, UploadedFile]]]:
        if self._forms is None:
            if self.mimetype == "application/x-www-form-urlencoded":
                self._forms = read_urlencoded(self.data), []
            elif self.mimetype == "multipart/form-data":
                self._forms = read_multipart(self.content_type or "", self.data)
            else:
                self._forms = [], []
        return self._forms


class AMLResponse:
    """An answer as a script makes it: ``message`` is text or bytes, or a value for JSON with ``json_str``.

    None answers ``{}``. ``headers`` may be changed afterwards; of ``response_headers``, a value with commas becomes one
    header for each of its parts. A status of 500 and above, or ``run_function_failed``, sets
    ``x-ms-run-function-failed``.
    """

    def __init__(
        self,
        message: Any,
        status_code: int | str | HTTPStatus,
        response_headers: Mapping[str, str] = {},
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        self.status_code = int(status_code.split()[0]) if isinstance(status_code, str) else int(status_code)
        self.run_function_failed = bool(run_function_failed)
        as_json = json_str or message is None
        self.headers = HeaderFields([("Content-Type", "application/json" if as_json else "text/html; charset=utf-8")])
        self._body = _body_of({} if message is None else message, as_json)
        given = list(response_headers.items())
        if any(name.lower() == "content-type" for name, _ in given):
            self.headers.remove("Content-Type")
        for name, value in given:
            for part in str(value).split(","):
                self.headers.add(name, part.strip())

    def __repr__(self) -> str:
        return f"<AMLResponse {len(self._body)} bytes [{self.status_code}]>"

    @property
    def data(self) -> bytes:
        """The body."""
        return self._body

    @data.setter
    def data(self, value: str | bytes) -> None:
        self.set_data(value)

    def get_data(self, as_text: bool = False) -> Any:
        """The body as bytes or as text."""
        return self._body.decode("utf-8", "replace") if as_text else self._body

    def set_data(self, value: str | bytes) -> None:
        """Replace the body."""
        self._body = _body_of(value, False)

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
