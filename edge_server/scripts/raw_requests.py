"""What a script that asks for the request itself is given: ``AMLRequest``, with what Flask's request has to read."""

from __future__ import annotations

import sys
from datetime import datetime
from functools import cached_property
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from edge_server.scripts.cookies import read_cookies, read_date
from edge_server.scripts.fields import Fields, HeaderFields
from edge_server.scripts.forms import FIELDS, UploadedFile, read_multipart, read_urlencoded, split_value
from edge_server.scripts.header_values import Accepted, Authorization, UserAgent
from edge_server.scripts.inputs import RefusedInputError
from edge_server.scripts.json_bodies import is_json_type, read_json


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

    url_root = root_url = host_url

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
    def content_length(self) -> int | None:
        """The body's length in bytes; None for a request that says nothing of a body."""
        if self.data or "content-length" in self.headers or "transfer-encoding" in self.headers:
            return len(self.data)
        return None

    @property
    def content_encoding(self) -> str | None:
        """The Content-Encoding header: the body of a raw request is as it came."""
        return self.headers.get("content-encoding")  # type: ignore[no-any-return]

    @property
    def user_agent(self) -> UserAgent:
        """The program that asks."""
        return UserAgent(self.headers.get("user-agent", ""))

    @property
    def authorization(self) -> Authorization | None:
        """The Authorization header; None without one, and for one that cannot be read."""
        return Authorization.from_header(self.headers.get("authorization"))

    @property
    def origin(self) -> str | None:
        """The Origin header: the page that asks."""
        return self.headers.get("origin")  # type: ignore[no-any-return]

    @property
    def referrer(self) -> str | None:
        """The Referer header."""
        return self.headers.get("referer")  # type: ignore[no-any-return]

    @property
    def date(self) -> datetime | None:
        """The Date header; None without one, and for one that cannot be read."""
        return read_date(self.headers.get("date"))

    @property
    def accept_mimetypes(self) -> Accepted:
        """The media types that the client wants."""
        return Accepted(self.headers.get("accept"))

    @property
    def accept_languages(self) -> Accepted:
        """The languages that the client wants."""
        return Accepted(self.headers.get("accept-language"))

    @property
    def accept_encodings(self) -> Accepted:
        """The content encodings that the client takes."""
        return Accepted(self.headers.get("accept-encoding"))

    @property
    def accept_charsets(self) -> Accepted:
        """The character sets that the client takes."""
        return Accepted(self.headers.get("accept-charset"))

    @property
    def access_route(self) -> list[str]:
        """The addresses that the request came through, by X-Forwarded-For, else the client's."""
        forwarded = [part.strip() for part in self.headers.get("x-forwarded-for", "").split(",") if part.strip()]
        return forwarded or ([self.remote_addr] if self.remote_addr else [])

    @cached_property
    def environ(self) -> dict[str, Any]:
        """The request as WSGI writes it (PEP 3333)."""
        host, _, port = self.host.partition(":")
        variables = {
            f"HTTP_{name.upper().replace('-', '_')}": ",".join(self.headers.getlist(name))
            for name in dict.fromkeys(self.headers.keys())
        }
        lengths = {"CONTENT_TYPE": variables.pop("HTTP_CONTENT_TYPE", None)}
        variables.pop("HTTP_CONTENT_LENGTH", None)
        if self.content_length is not None:
            lengths["CONTENT_LENGTH"] = str(self.content_length)
        return {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": self.path.encode().decode("latin-1"),
            "QUERY_STRING": self._query,
            "RAW_URI": self.full_path if self._query else self.path,
            "REQUEST_URI": self.full_path if self._query else self.path,
            "SERVER_NAME": host,
            "SERVER_PORT": port or ("443" if self.is_secure else "80"),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self.remote_addr or "",
            **{name: value for name, value in lengths.items() if value is not None},
            **variables,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": self.scheme,
            "wsgi.input": self.stream,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }

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
        return Fields(read_cookies(self.headers.getlist("cookie")))

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
        return is_json_type(self.mimetype)

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
