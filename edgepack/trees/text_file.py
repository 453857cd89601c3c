"""Text files that people write: small, regular, in an encoding that is known."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from edgepack.documents import raise_all
from edgepack.errors import InvalidDocumentError, NotFoundError, UnsafeArchiveError, UsageError
from edgepack.host.inputs import open_regular
from edgepack.limits import LIMITS

# The longer ones first: UTF-16's mark is the beginning of UTF-32's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"#.*?coding[:=]\s*([-\w.]+)")


def raise_some(where: object, violations: Sequence[str], *, hint: str | None = None) -> None:
    """Raise ``InvalidDocumentError`` when there are violations; of very many with the first, and the others' number."""
    most = LIMITS.shown_violations
    shown = violations if len(violations) <= most else [*violations[:most], f"and {len(violations) - most} more"]
    raise_all(where, shown, hint=hint)


def read_text(path: Path, what: str = "file") -> str:
    """The text of ``path``: in UTF-8, or as its byte order mark or its declared encoding (PEP 263) says.

    PowerShell writes what ``pip freeze`` prints in UTF-16. Raises ``NotFoundError``, ``UsageError`` and
    ``InvalidDocumentError``.
    """
    try:
        with open_regular(path) as file:
            data = file.read(LIMITS.environment_file_bytes + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no such {what}", where=path, hint="check its path") from None
    except UnsafeArchiveError as error:
        raise UsageError(error.what, where=path, hint=f"give a {what}") from error
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint="check its permissions") from error
    if len(data) > LIMITS.environment_file_bytes:
        most = LIMITS.environment_file_bytes >> 20
        raise InvalidDocumentError(path, [f"has more than {most} MiB, which is not a {what}"])
    return decoded(data, path)


def decoded(data: bytes, where: object) -> str:
    """The text in ``data``, as ``read_text`` decodes it; raises ``InvalidDocumentError``."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode(data[len(mark) :], encoding, where)
    for line in data.split(b"\n", 2)[:2]:
        if declared := _DECLARED.match(line):
            return _decode(data, declared[1].decode("ascii"), where)
    return _decode(data, "utf-8", where)


def _decode(data: bytes, encoding: str, where: object) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidDocumentError(
            where, [f"is not {encoding.upper()} ({error.reason} at byte {error.start})"], hint="save it as UTF-8"
        ) from error
    except LookupError:
        raise InvalidDocumentError(
            where, [f"declares an unknown encoding, {encoding!r}"], hint="save it as UTF-8"
        ) from None
    if "\0" in text:
        raise InvalidDocumentError(where, ["holds a NUL character, so it is not a text file"], hint="save it as UTF-8")
    return text
