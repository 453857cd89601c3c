"""Bodies of HTML forms: urlencoded fields, and multipart/form-data (RFC 7578) with files."""

from __future__ import annotations

import os
import re
from io import BytesIO
from typing import IO, Any
from urllib.parse import parse_qsl, unquote

from edge_server.config.sizes import SIZES
from edge_server.scripts.fields import HeaderFields
from edge_server.scripts.inputs import RefusedInputError

# Limits of a form: fields or parts in all, and bytes of the head of one part.
FIELDS = 1000
_PART_HEAD = SIZES.form_part_head

_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;"\s]*)')


class UploadedFile:
    """One file of a form. ``name`` is the field's, ``filename`` the client's name of the file, never to be trusted as a
    path.

    It reads like an open file.
    """

    def __init__(self, name: str, filename: str, content: bytes, headers: HeaderFields) -> None:
        self.name = name
        self.filename = filename
        self.headers = headers
        self.stream = BytesIO(content)
        self.content_length = len(content)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.stream, attribute)

    def __iter__(self) -> Any:
        return iter(self.stream)

    def __repr__(self) -> str:
        return f"<UploadedFile {self.filename!r} ({self.content_type!r})>"

    @property
    def content_type(self) -> str:
        """The file's media type as the client sent it, with its parameters."""
        return str(self.headers.get("content-type", ""))

    @property
    def mimetype(self) -> str:
        """The media type alone, in lower case."""
        return split_value(self.content_type)[0]

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, or all that are left."""
        return self.stream.read(size)

    def save(self, target: str | os.PathLike[str] | IO[bytes], buffer_size: int = 0) -> None:
        """Write what is left of the file to a path, or to a file that is open for binary writing."""
        if isinstance(target, (str, os.PathLike)):
            with open(target, "wb") as file:
                file.write(self.stream.read())
        else:
            target.write(self.stream.read())


def split_value(value: str) -> tuple[str, dict[str, str]]:
    """A header's value in lower case, and its parameters by lower-case name, such as those of a content type."""
    main, semicolon, rest = value.partition(";")
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(semicolon + rest):
        name, text = match[1].lower(), match[2]
        if text.startswith('"'):
            # Browsers write a quote in a file's name as %22 and a backslash as itself.
            text = text[1:-1].replace('\\"', '"')
        parameters.setdefault(name, text)
    return main.strip().lower(), parameters


def read_urlencoded(body: bytes) -> list[tuple[str, str]]:
    """The fields of an urlencoded body; RefusedInputError for more than FIELDS of them."""
    try:
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        raise RefusedInputError(f"The form has more than {FIELDS} fields") from None


def read_multipart(content_type: str, body: bytes) -> tuple[list[tuple[str, str]], list[tuple[str, UploadedFile]]]:
    """The fields and the files of a multipart/form-data body; RefusedInputError for one that breaks its rules."""
    boundary = split_value(content_type)[1].get("boundary", "")
    if not boundary or len(boundary) > 70 or not boundary.isascii():  # RFC 2046, section 5.1.1
        raise RefusedInputError("The form's content type has no boundary of 1 to 70 characters")
    delimiter = b"\r\n--" + boundary.encode()
    pieces = (b"\r\n" + body).split(delimiter, FIELDS + 2)
    if len(pieces) > FIELDS + 2:
        raise RefusedInputError(f"The form has more than {FIELDS} parts")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise RefusedInputError("The form's last boundary is missing: its body is not whole")
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, UploadedFile]] = []
    for piece in pieces[1:-1]:
        name, filename, content, headers = _read_part(piece)
        if filename is None:
            fields.append((name, content.decode("utf-8", "replace")))
        else:
            files.append((name, UploadedFile(name, filename, content, headers)))
    return fields, files


def _read_part(piece: bytes) -> tuple[str, str | None, bytes, HeaderFields]:
    padding, _, rest = piece.partition(b"\r\n")
    head, found, content = rest.partition(b"\r\n\r\n")
    if padding.strip(b" \t") or not found or len(head) > _PART_HEAD:
        raise RefusedInputError("A part of the form has no head, or one that is too long")
    lines = head.decode("utf-8", "replace").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = HeaderFields((name.strip(), value.strip()) for name, _, value in pairs)
    kind, parameters = split_value(str(headers.get("content-disposition", "")))
    if kind != "form-data" or "name" not in parameters:
        raise RefusedInputError("A part of the form has no name")
    filename = parameters.get("filename")
    extended = parameters.get("filename*", "")  # RFC 5987: charset'language'percent-encoded
    if extended.lower().startswith("utf-8'") and extended.count("'") >= 2:
        filename = unquote(extended.split("'", 2)[2], errors="replace")
    return parameters["name"], filename, content, headers
